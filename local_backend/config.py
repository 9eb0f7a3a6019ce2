"""What a model folder says about its model. Torch-free."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from local_backend.families import ENCODERS, LLAMA, SUPPORTED, Family, family_of
from local_backend.rope import UNSCALED, Scaling, check_rotation, scaling_of
from local_backend.stored import Stored, stored_of
from local_backend.windows import unrotated_of, windows_of

BUNDLED = Path(__file__).parent / "bundled"
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# What is beyond these is a slip of the pen: memory for it would be asked for before anybody noticed.
_MOST = {
    "vocab_size": 1 << 24, "hidden_size": 1 << 20, "intermediate_size": 1 << 22, "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 14, "num_key_value_heads": 1 << 14, "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 24, "type_vocab_size": 1 << 16,
}  # fmt: skip


class UnusableModel(Exception):
    """A folder that cannot be served; the message says what is missing or not supported."""


@dataclass(slots=True, frozen=True)
class ModelConfig:
    """A decoder in our own words: sizes in elements, windows in tokens, one entry of `windows` a layer."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float
    rope_theta: float
    tied: bool
    eos: tuple[int, ...]
    bos: int | None
    temperature: float  # where a call says none
    family: Family = LLAMA
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    activation: Literal["silu", "gelu_tanh"] = "silu"
    windows: tuple[int, ...] = ()  # 0, or no entry: the layer sees all that came before
    unrotated: frozenset[int] = frozenset()  # layers without rotary positions
    rotary_dim: int = 0  # of each head; 0: all of it
    rope: Scaling = UNSCALED
    window_theta: float = 0.0  # rotary base of the windowed layers; 0: as the others
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float = 0.0  # 0: head_dim ** -0.5
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    logit_divisor: float = 1.0
    stored: Stored | None = None  # matrices of fewer bits, as the folder has them

    @classmethod
    def load(cls, folder: Path) -> "ModelConfig":
        """Raises UnusableModel."""
        path, beside = folder / "config.json", folder / "generation_config.json"
        raw, generation = read_json(path), read_json(beside) if beside.exists() else {}
        with reading(path):
            found = _read(raw, ends="eos_token_id" not in generation)
        with reading(beside):
            return _generating(found, generation)

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0

    def kv_bytes(self, itemsize: int) -> int:
        """Of the cache, for each token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize

    @property
    def tables(self) -> int:
        """Weights of the table that ids are looked up in, and of the one that gives logits."""
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Weights of the matrices, roughly: what they cost in memory and time."""
        attention = self.hidden_size * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.tables + self.layers * (attention + 3 * self.hidden_size * self.intermediate_size)


def folder_of(model: str) -> Path:
    """`bundled`, or a folder. Raises UnusableModel."""
    folder = BUNDLED if model == "bundled" else Path(model)
    if not (folder / "config.json").exists():
        raise UnusableModel(
            f"{model}: there is no model folder (with config.json, *.safetensors, tokenizer.json) of that name"
        )
    return folder


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What is wrong with the members of a file is told with its name. Raises UnusableModel."""
    try:
        yield
    except KeyError as error:
        raise UnusableModel(f"{path} lacks {error.args[0]}") from None
    except (UnusableModel, TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise UnusableModel(f"{path}: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Raises UnusableModel."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableModel(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UnusableModel(f"{path}: is no JSON object")
    return found


def architecture_of(raw: Mapping[str, Any]) -> str:
    """Raises ValueError."""
    match raw.get("architectures"):
        case None | []:
            return "none"
        case [str(name), *_]:
            return name
    raise ValueError("architectures must be a list of names")


def size_of(raw: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Raises ValueError, KeyError."""
    found = raw[name] if default is None else raw.get(name, default)
    if type(found) is not int or not 1 <= found <= _MOST[name]:
        raise ValueError(f"{name} must be a whole number from 1 to {_MOST[name]}, not {found!r:.40}")
    return found


def _read(raw: Mapping[str, Any], *, ends: bool) -> ModelConfig:
    """`ends`: the file says which tokens end a text."""
    name = architecture_of(raw)
    family = _family(name)
    # A null in the file stands against a default: Gemma 2 without soft caps says so.
    raw = {key: value for key, value in {**family.defaults, **raw}.items() if value is not None}
    _refuse(raw, name, family)
    vocabulary, hidden = size_of(raw, "vocab_size"), size_of(raw, "hidden_size")
    layers, (heads, kv_heads, head_dim) = size_of(raw, "num_hidden_layers"), _heads(raw, hidden)
    positions, scaling, theta, window_theta, rotated = _rotation(raw, head_dim)
    unrotated = unrotated_of(raw, layers)
    config = ModelConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=size_of(raw, "intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=positions,
        rms_eps=float(raw.get("rms_norm_eps", 1e-6)),
        rope_theta=theta,
        tied=bool(raw.get("tie_word_embeddings")),
        eos=_ends(raw, vocabulary) if ends else (),
        bos=raw.get("bos_token_id"),
        temperature=1.0,
        family=family,
        qkv_bias=_flag(family.qkv_bias, raw),
        out_bias=_flag(family.out_bias, raw),
        mlp_bias=_flag(family.mlp_bias, raw),
        activation=_activation(raw),
        windows=windows_of(family, raw, layers, unrotated),
        unrotated=unrotated,
        rotary_dim=rotated,
        rope=scaling,
        window_theta=window_theta,
        stored=stored_of(raw),
    )
    return _scaled(config, raw)


def _family(name: str) -> Family:
    family = family_of(name)
    if family is None:
        known = ", ".join([*SUPPORTED, *ENCODERS])
        raise UnusableModel(f"the architecture {name} is not supported; {known} are")
    return family


def _refuse(raw: Mapping[str, Any], name: str, family: Family) -> None:
    """What would be computed wrongly is said before it is loaded."""
    if raw.get("use_bidirectional_attention"):
        raise UnusableModel("attention in both directions is not supported in decoders")
    if raw.get("attn_logit_softcapping") and "attn_logit_softcapping" not in family.defaults:
        # transformers ignores it there: whichever of the two is right, one would compute something else
        raise UnusableModel(f"attn_logit_softcapping is not known in {name}")


def _heads(raw: Mapping[str, Any], hidden: int) -> tuple[int, int, int]:
    """(heads, heads of keys and values, elements of each)."""
    heads = size_of(raw, "num_attention_heads")
    kv_heads = size_of(raw, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise UnusableModel(f"{heads} heads cannot share {kv_heads} key-value heads evenly")
    return heads, kv_heads, size_of(raw, "head_dim", hidden // heads)


def _rotation(raw: Mapping[str, Any], head_dim: int) -> tuple[int, Scaling, float, float, int]:
    """(positions, scaling, theta, theta of windowed layers or 0, rotated elements of each head)."""
    positions = size_of(raw, "max_position_embeddings")
    scaling, theta, window_theta, partial = scaling_of(raw, positions)
    positions = size_of({"max_position_embeddings": max(positions, scaling.reach)}, "max_position_embeddings")
    rotated = int(head_dim * partial)
    check_rotation(scaling, theta, rotated)
    if window_theta:
        check_rotation(UNSCALED, window_theta, rotated)
    return positions, scaling, theta, window_theta, rotated


def _scaled(config: ModelConfig, raw: Mapping[str, Any]) -> ModelConfig:
    """With what multiplies or bounds what its layers compute."""
    scalar = raw.get("query_pre_attn_scalar")
    root = config.hidden_size**0.5 if config.family.scaled_embedding else None
    return replace(
        config,
        embedding_scale=root or float(raw.get("embedding_multiplier", 1.0)),
        residual_scale=float(raw.get("residual_multiplier", 1.0)),
        attention_scale=scalar**-0.5 if scalar else float(raw.get("attention_multiplier", 0.0)),
        attention_softcap=float(raw.get("attn_logit_softcapping", 0.0)),
        logit_softcap=float(raw.get("final_logit_softcapping", 0.0)),
        logit_divisor=float(raw.get("logits_scaling", 1.0)),
    )


def _generating(config: ModelConfig, raw: Mapping[str, Any]) -> ModelConfig:
    """With what generation_config.json says, which goes before."""
    temperature = raw.get("temperature", 1.0)
    if type(temperature) not in (int, float) or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a number from 0 on, not {temperature!r:.40}")
    eos = _ends(raw, config.vocab_size) if "eos_token_id" in raw else config.eos
    return replace(config, eos=eos, temperature=float(temperature))


def _ends(raw: Mapping[str, Any], vocabulary: int) -> tuple[int, ...]:
    """The tokens that end a text."""
    told = raw.get("eos_token_id")
    found = told if isinstance(told, list) else [] if told is None else [told]
    for one in found:
        if type(one) is not int or not 0 <= one < vocabulary:
            raise ValueError(
                f"eos_token_id names {one!r:.40}, and the vocabulary has ids from 0 to {vocabulary - 1}"
            )
    return tuple(found)


def _flag(flag: bool | str, raw: Mapping[str, Any]) -> bool:
    return bool(raw.get(flag)) if isinstance(flag, str) else flag


def _activation(raw: Mapping[str, Any]) -> Literal["silu", "gelu_tanh"]:
    # Gemma's `hidden_act` is a relic; `hidden_activation` counts.
    name = raw.get("hidden_activation") or raw.get("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise UnusableModel(f"the activation {name} is not supported; {', '.join(_ACTIVATIONS)} are")
    return _ACTIVATIONS[name]
