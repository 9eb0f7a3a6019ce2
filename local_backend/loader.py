"""From Hugging Face's tensors to our fused modules, quantised on the way, and back again for a model of our own."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from local_backend.checkpoint import UNUSED, Grouped, Matrix, Scaled, dense, is_there, joined, read_matrix
from local_backend.config import ModelConfig, UnusableModel
from local_backend.fp8 import Fp8, Fp8Embedding, by_rows
from local_backend.int4 import layer_of
from local_backend.layers import Dense, Int8, Int8Embedding, Norm
from local_backend.model import Decoder, Join
from local_backend.share import ALONE, Share
from local_backend.weights import Tell, Weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = 64_000_000  # parameters up to which "auto" is fp32: memory is no matter then
# Old files hold them; they follow from config.json.
_DERIVED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


class Source(Protocol):
    """Tensors by Hugging Face's names: a folder's, or whatever a benchmark makes up."""

    def __contains__(self, name: str) -> bool: ...

    def read(self, name: str, shape: tuple[int, ...], cut: tuple[slice, ...] | None = None) -> Tensor:
        """All of it, or what `cut` says of its dimensions. Raises UnusableModel for one that is not there or is shaped
        otherwise."""


class Part(NamedTuple):
    """A module of theirs, how many rows it has, and which of them are this rank's (None: all)."""

    name: str
    rows: int
    mine: slice | None = None


class Place(NamedTuple):
    """A module of ours and the modules of theirs that it is made of, one below the other: `whole` where a file
    has them fused already, `parts` where not. `inputs`: how many columns they have, and which are this rank's. What
    all ranks' answers add up to has its bias added once, where it is `biased`."""

    ours: str
    parts: tuple[Part, ...]
    whole: str = ""
    inputs: tuple[int, slice] | None = None
    biased: bool = True


def load(  # noqa: PLR0913 - what a model is made of
    folder: Path,
    dtype: str = "auto",
    quantize: str = "none",
    share: Share = ALONE,
    join: Join | None = None,
    device: torch.device | str = "cpu",
    *,
    tell: Tell = lambda how_far: None,
) -> Decoder:
    """A decoder ready to serve; `dtype` of DTYPES or auto, `quantize` none, int8 or fp8; by none, what is stored in
    fewer bits is kept so. Of a model that is dealt out this rank's `share`, whose answers `join` adds up. Raises
    UnusableModel."""
    config = ModelConfig.load(folder)
    with Weights(folder, device, tell) as weights:
        kind = _kind(dtype, config, weights.read("model.embed_tokens.weight").dtype)
        model = build(config, weights, kind, quantize, share=share, join=join)
        spare = ("lm_head.weight",) if config.tied else ()  # often written down all the same
        weights.check_all_read(*_DERIVED, *spare, *(UNUSED if config.stored else ()))
    return model


def build(
    config: ModelConfig,
    source: Source,
    dtype: torch.dtype,
    quantize: str = "none",
    *,
    share: Share = ALONE,
    join: Join | None = None,
) -> Decoder:
    """A decoder of the source's tensors, on the device on which they are. Raises UnusableModel."""
    with torch.device("meta"):
        model = Decoder(share.of(config), join)
    with torch.no_grad():
        for place in places(config, share):
            _fill(model, place, source, dtype, quantize)
    return model.to(model.embed.weight.device).eval().requires_grad_(False)


def places(config: ModelConfig, share: Share = ALONE) -> Iterator[Place]:
    """Of the whole model's `config`, as this rank has them."""
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
    yield Place("embed", (Part("model.embed_tokens", config.vocab_size),))
    first = share.rank == 0

    def dealt(name: str, rows: int, unit: int = 1) -> Part:
        return Part(name, rows, None if share == ALONE else share.cut(rows, unit))

    def joined(ours: str, name: str, columns: int, unit: int = 1) -> Place:
        inputs = None if share == ALONE else (columns, share.cut(columns, unit))
        return Place(ours, (Part(name, hidden),), inputs=inputs, biased=first)

    for number in range(config.layers):
        ours, theirs = f"layers.{number}.", f"model.layers.{number}."
        attention, mlp = theirs + "self_attn.", theirs + "mlp."
        sizes = (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))
        qkv = tuple(dealt(attention + name, rows, config.head_dim) for name, rows in sizes)
        yield Place(f"{ours}attention.qkv", qkv, f"{attention}qkv_proj")
        yield joined(f"{ours}attention.out", f"{attention}o_proj", queries, config.head_dim)
        gate_up = (dealt(f"{mlp}gate_proj", inner), dealt(f"{mlp}up_proj", inner))
        yield Place(f"{ours}mlp.gate_up", gate_up, f"{mlp}gate_up_proj")
        yield joined(f"{ours}mlp.down", f"{mlp}down_proj", inner)
        for mine, name in norms.items():
            yield Place(ours + mine, (Part(theirs + name, hidden),))
        if config.family.qk_norm:
            whole = config.family.qk_norm == "all"
            for name, rows in (("q_norm", queries), ("k_norm", keys)):
                part = Part(attention + name, rows if whole else config.head_dim)
                yield Place(f"{ours}attention.{name}", (part,))
    yield Place("norm", (Part("model.norm", hidden),))
    yield Place("head", (Part("model.embed_tokens" if config.tied else "lm_head", config.vocab_size),))


def export(model: Decoder) -> dict[str, Tensor]:
    """The weights under Hugging Face's names, split as it splits them."""
    found: dict[str, Tensor] = {}
    for place in places(model.config):
        module = model.get_submodule(place.ours)
        for kind, value in module.named_parameters(recurse=False):
            added = isinstance(module, Norm) and model.config.family.norm_plus_one
            parts = torch.split(
                value.detach() - added if added else value.detach(), [part.rows for part in place.parts]
            )
            names = [f"{part.name}.{kind}" for part in place.parts]
            found.update({name: part.clone() for name, part in zip(names, parts, strict=True)})
    return found


def _fill(model: Decoder, place: Place, source: Source, dtype: torch.dtype, quantize: str) -> None:
    module = model.get_submodule(place.ours)
    shapes = {kind: tuple(one.shape) for kind, one in module.named_parameters(recurse=False)}
    weight = _matrix(model.config, source, place, shapes["weight"])
    bias = _read(source, place, "bias", shapes["bias"]) if "bias" in shapes else None
    if bias is not None and not place.biased:
        bias = torch.zeros_like(bias)
    if isinstance(module, Norm):
        module.weight = nn.Parameter(
            dense(weight).float() + model.config.family.norm_plus_one, requires_grad=False
        )
    elif (made := _of_fewer_bits(model, place, weight, bias, dtype, quantize)) is not None:
        model.set_submodule(place.ours, made)
    elif place.ours == "head" and model.config.tied:
        module.weight = model.embed.weight
    else:
        assert isinstance(module, Dense | nn.Embedding)
        module.weight = nn.Parameter(dense(weight).to(dtype), requires_grad=False)
        if bias is not None:
            module.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _of_fewer_bits(
    model: Decoder, place: Place, weight: Matrix, bias: Tensor | None, dtype: torch.dtype, quantize: str
) -> nn.Module | None:
    """What is to stand in the place; None: the module that stands there, with weights of `dtype`."""
    linear = isinstance(model.get_submodule(place.ours), Dense)
    if quantize == "int8":
        return Int8(dense(weight), bias) if linear else Int8Embedding(dense(weight))
    if isinstance(weight, Scaled):
        return Fp8(weight.weight, weight.scale, bias)
    if quantize == "fp8":
        if place.ours == "head" and isinstance(table := model.embed, Fp8Embedding) and model.config.tied:
            return Fp8(table.weight, table.scale, bias)
        return Fp8.of(dense(weight), bias) if linear else Fp8Embedding(*by_rows(dense(weight)), dtype)
    return layer_of(weight, bias, dtype) if isinstance(weight, Grouped) else None


def _matrix(config: ModelConfig, source: Source, place: Place, shape: tuple[int, ...]) -> Matrix:
    if config.stored is None or len(shape) == 1:
        return _read(source, place, "weight", shape)
    assert isinstance(source, Weights), "only a folder has matrices stored so"
    columns, mine = place.inputs or (shape[1], slice(0, shape[1]))
    fused = bool(place.whole) and is_there(source, place.whole)
    return joined([
        read_matrix(source, config.stored, name, (rows, columns), (cut, mine))
        for name, rows, cut in _parts(place, fused)
    ])  # fmt: skip


def _read(weights: Source, place: Place, kind: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor for a module of ours, out of one of theirs or of several."""
    is_weight = kind == "weight"
    tail = (place.inputs[0],) if place.inputs and is_weight else shape[1:]
    columns = (place.inputs[1],) if place.inputs and is_weight else ()
    fused = bool(place.whole) and f"{place.whole}.{kind}" in weights
    read = []
    for name, rows, mine in _parts(place, fused):
        cut = (mine, *columns) if columns or mine != slice(0, rows) else None
        read.append(weights.read(f"{name}.{kind}", (rows, *tail), cut))
    return torch.cat(read) if len(read) > 1 else read[0]


def _parts(place: Place, fused: bool) -> Iterator[tuple[str, int, slice]]:
    """Modules of theirs: the name, the rows there are, and those of them that are meant."""
    total, above = sum(part.rows for part in place.parts), 0
    for name, rows, mine in place.parts:
        mine = mine or slice(0, rows)
        if fused:
            yield place.whole, total, slice(above + mine.start, above + mine.stop)
        else:
            yield name, rows, mine
        above += rows


def _kind(asked: str, config: ModelConfig, stored: torch.dtype) -> torch.dtype:
    if asked in DTYPES:
        return DTYPES[asked]
    if stored not in DTYPES.values():
        raise UnusableModel(f"weights of the type {stored} are not supported; {', '.join(DTYPES)} are")
    return torch.float32 if config.parameters <= SMALL else stored
