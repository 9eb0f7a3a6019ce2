"""What a model folder says about its model. Torch-free."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from local_backend.families import ENCODERS, LLAMA, SUPPORTED, Family, family_of
from local_backend.rope import UNSCALED, Scaling, scaling_of
from local_backend.stored import Stored, stored_of

BUNDLED = Path(__file__).parent / "bundled"
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


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
        raw = read_json(folder / "config.json")
        path = folder / "generation_config.json"
        try:
            return _read(raw, read_json(path) if path.exists() else {})
        except KeyError as error:
            raise UnusableModel(f"{folder}/config.json lacks {error.args[0]}") from None
        except (UnusableModel, TypeError, ValueError, ArithmeticError) as error:
            raise UnusableModel(f"{folder}/config.json: {error}") from None

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


def read_json(path: Path) -> dict[str, Any]:
    """Raises UnusableModel."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnusableModel(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UnusableModel(f"{path}: is no JSON object")
    return found


def _read(raw: Mapping[str, Any], generation: Mapping[str, Any]) -> ModelConfig:
    name = str((raw.get("architectures") or ["none"])[0])
    family = family_of(name)
    if family is None:
        known = ", ".join([*SUPPORTED, *ENCODERS])
        raise UnusableModel(f"the architecture {name} is not supported; {known} are")
    # A null in the file stands against a default: Gemma 2 without soft caps says so.
    raw = {key: value for key, value in {**family.defaults, **raw}.items() if value is not None}
    _refuse(raw)
    if raw.get("attn_logit_softcapping") and "attn_logit_softcapping" not in family.defaults:
        # transformers ignores it there: whichever of the two is right, one would compute something else
        raise UnusableModel(f"attn_logit_softcapping is not known in {name}")
    heads, layers = raw["num_attention_heads"], raw["num_hidden_layers"]
    kv_heads = raw.get("num_key_value_heads", heads)
    if heads % kv_heads:
        raise UnusableModel(f"{heads} heads cannot share {kv_heads} key-value heads evenly")
    head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
    positions = raw["max_position_embeddings"]
    scaling, theta, window_theta, partial = scaling_of(raw, positions)
    positions = max(positions, scaling.reach)
    unrotated = _unrotated(raw, layers)
    eos = generation.get("eos_token_id", raw.get("eos_token_id"))
    scalar = raw.get("query_pre_attn_scalar")
    return ModelConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=positions,
        rms_eps=raw.get("rms_norm_eps", 1e-6),
        rope_theta=theta,
        tied=bool(raw.get("tie_word_embeddings")),
        eos=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
        bos=raw.get("bos_token_id"),
        temperature=float(generation.get("temperature", 1.0)),
        family=family,
        qkv_bias=_flag(family.qkv_bias, raw),
        out_bias=_flag(family.out_bias, raw),
        mlp_bias=_flag(family.mlp_bias, raw),
        activation=_activation(raw),
        windows=_windows(family, raw, layers, unrotated),
        unrotated=unrotated,
        rotary_dim=int(head_dim * partial),
        rope=scaling,
        window_theta=window_theta,
        embedding_scale=raw["hidden_size"] ** 0.5
        if family.scaled_embedding
        else float(raw.get("embedding_multiplier", 1.0)),
        residual_scale=float(raw.get("residual_multiplier", 1.0)),
        attention_scale=scalar**-0.5 if scalar else float(raw.get("attention_multiplier", 0.0)),
        attention_softcap=float(raw.get("attn_logit_softcapping", 0.0)),
        logit_softcap=float(raw.get("final_logit_softcapping", 0.0)),
        logit_divisor=float(raw.get("logits_scaling", 1.0)),
        stored=stored_of(raw),
    )


def _refuse(raw: Mapping[str, Any]) -> None:
    """What would be computed wrongly is said before it is loaded."""
    if raw.get("use_bidirectional_attention"):
        raise UnusableModel("attention in both directions is not supported in decoders")


def _flag(flag: bool | str, raw: Mapping[str, Any]) -> bool:
    return bool(raw.get(flag)) if isinstance(flag, str) else flag


def _activation(raw: Mapping[str, Any]) -> Literal["silu", "gelu_tanh"]:
    # Gemma's `hidden_act` is a relic; `hidden_activation` counts.
    name = raw.get("hidden_activation") or raw.get("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise UnusableModel(f"the activation {name} is not supported; {', '.join(_ACTIVATIONS)} are")
    return _ACTIVATIONS[name]


def _unrotated(raw: Mapping[str, Any], layers: int) -> frozenset[int]:
    """`no_rope_layers` holds a 1 for each layer that does rotate."""
    marks, every = raw.get("no_rope_layers"), raw.get("no_rope_layer_interval")
    if marks is None and every:
        marks = [int((layer + 1) % every != 0) for layer in range(layers)]
    return frozenset(layer for layer, mark in enumerate(marks or []) if not mark)


def _windows(
    family: Family, raw: Mapping[str, Any], layers: int, unrotated: frozenset[int]
) -> tuple[int, ...]:
    """Tokens each layer sees, its own included; 0 for all."""
    size = raw.get("sliding_window") or 0
    optional = family.window in ("upper", "unrotated")
    if not family.window or (optional and not raw.get("use_sliding_window")):
        size = 0
    kinds = raw.get("layer_types")
    if kinds and family.window != "all":
        return tuple(size if kind == "sliding_attention" else 0 for kind in kinds[:layers])
    return tuple(size if _narrow(family, raw, layer, unrotated) else 0 for layer in range(layers))


def _narrow(family: Family, raw: Mapping[str, Any], layer: int, unrotated: frozenset[int]) -> bool:
    match family.window:
        case "all":
            return True
        case "upper":
            return layer >= int(raw.get("max_window_layers", 28))
        case "pattern":
            return (layer + 1) % int(raw["sliding_window_pattern"]) != 0
        case "unrotated":
            return layer in unrotated
        case _:
            return False
