"""From Hugging Face's tensors to our fused modules, quantised on the way, and back again for a model of our own."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from local_backend.config import ModelConfig, UnusableModel
from local_backend.layers import Dense, Int8, Int8Embedding, Norm
from local_backend.model import Decoder
from local_backend.weights import Weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = 64_000_000  # parameters up to which "auto" is fp32: memory is no matter then
# Old files hold them; they follow from config.json.
_DERIVED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


class Source(Protocol):
    """Tensors by Hugging Face's names: a folder's, or whatever a benchmark makes up."""

    def __contains__(self, name: str) -> bool: ...

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Raises UnusableModel for one that is not there or is shaped otherwise."""


class Place(NamedTuple):
    """A module of ours and the modules of theirs that it is made of, one below the other: `whole` where a file
    has them fused already, `parts` with their numbers of rows where not."""

    ours: str
    parts: tuple[tuple[str, int], ...]
    whole: str = ""


def load(folder: Path, dtype: str = "auto", quantize: str = "none") -> Decoder:
    """A decoder ready to serve; `dtype` of DTYPES or auto, `quantize` none or int8. Raises UnusableModel."""
    config = ModelConfig.load(folder)
    with Weights(folder) as weights:
        kind = _kind(dtype, config, weights.read("model.embed_tokens.weight").dtype)
        model = build(config, weights, kind, int8=quantize == "int8")
        spare = ("lm_head.weight",) if config.tied else ()  # often written down all the same
        weights.check_all_read(*_DERIVED, *spare)
    return model


def build(config: ModelConfig, source: Source, dtype: torch.dtype, *, int8: bool = False) -> Decoder:
    """A decoder of the source's tensors, on the device on which they are. Raises UnusableModel."""
    with torch.device("meta"):
        model = Decoder(config)
    with torch.no_grad():
        for place in places(config):
            _fill(model, place, source, dtype, int8)
    return model.to(model.embed.weight.device).eval().requires_grad_(False)


def places(config: ModelConfig) -> Iterator[Place]:
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    norms = {
        "before": {"input_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
        "after": {"attention_after": "post_attention_layernorm", "mlp_after": "post_feedforward_layernorm"},
        "both": {
            "input_norm": "input_layernorm",
            "attention_after": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "mlp_after": "post_feedforward_layernorm",
        },
    }[config.family.norms]
    yield Place("embed", (("model.embed_tokens", config.vocab_size),))
    for number in range(config.layers):
        ours, theirs = f"layers.{number}.", f"model.layers.{number}."
        attention, mlp = theirs + "self_attn.", theirs + "mlp."
        qkv = ((f"{attention}q_proj", queries), (f"{attention}k_proj", keys), (f"{attention}v_proj", keys))
        yield Place(f"{ours}attention.qkv", qkv, f"{attention}qkv_proj")
        yield Place(f"{ours}attention.out", ((f"{attention}o_proj", hidden),))
        gate_up = ((f"{mlp}gate_proj", inner), (f"{mlp}up_proj", inner))
        yield Place(f"{ours}mlp.gate_up", gate_up, f"{mlp}gate_up_proj")
        yield Place(f"{ours}mlp.down", ((f"{mlp}down_proj", hidden),))
        for mine, name in norms.items():
            yield Place(ours + mine, ((theirs + name, hidden),))
        if config.family.qk_norm:
            whole = config.family.qk_norm == "all"
            yield Place(
                f"{ours}attention.q_norm", ((f"{attention}q_norm", queries if whole else config.head_dim),)
            )
            yield Place(
                f"{ours}attention.k_norm", ((f"{attention}k_norm", keys if whole else config.head_dim),)
            )
    yield Place("norm", (("model.norm", hidden),))
    yield Place("head", (("model.embed_tokens" if config.tied else "lm_head", config.vocab_size),))


def export(model: Decoder) -> dict[str, Tensor]:
    """The weights under Hugging Face's names, split as it splits them."""
    found: dict[str, Tensor] = {}
    for place in places(model.config):
        module = model.get_submodule(place.ours)
        for kind, value in module.named_parameters(recurse=False):
            added = isinstance(module, Norm) and model.config.family.norm_plus_one
            parts = torch.split(
                value.detach() - added if added else value.detach(), [rows for _, rows in place.parts]
            )
            names = [f"{name}.{kind}" for name, _ in place.parts]
            found.update({name: part.clone() for name, part in zip(names, parts, strict=True)})
    return found


def _fill(model: Decoder, place: Place, weights: Source, dtype: torch.dtype, int8: bool) -> None:
    module = model.get_submodule(place.ours)
    read = {
        kind: _read(weights, place, kind, tuple(parameter.shape))
        for kind, parameter in module.named_parameters(recurse=False)
    }
    weight, bias = read["weight"], read.get("bias")
    if isinstance(module, Norm):
        weight = weight.float() + model.config.family.norm_plus_one
        module.weight = nn.Parameter(weight, requires_grad=False)
    elif int8:
        new = Int8(weight, bias) if isinstance(module, Dense) else Int8Embedding(weight)
        model.set_submodule(place.ours, new)
    elif place.ours == "head" and model.config.tied:
        module.weight = model.embed.weight
    else:
        assert isinstance(module, Dense | nn.Embedding)
        module.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        if bias is not None:
            module.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _read(weights: Source, place: Place, kind: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor for a module of ours, out of one of theirs or of several."""
    if place.whole and f"{place.whole}.{kind}" in weights:
        return weights.read(f"{place.whole}.{kind}", shape)
    parts = [weights.read(f"{name}.{kind}", (rows, *shape[1:])) for name, rows in place.parts]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _kind(asked: str, config: ModelConfig, stored: torch.dtype) -> torch.dtype:
    if asked in DTYPES:
        return DTYPES[asked]
    if stored not in DTYPES.values():
        raise UnusableModel(f"weights of the type {stored} are not supported; {', '.join(DTYPES)} are")
    return torch.float32 if config.parameters <= SMALL else stored
