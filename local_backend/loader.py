"""Weights between Hugging Face's safetensors and our fused modules. No pickle, ever."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from local_backend.config import ModelConfig, UnusableModel
from local_backend.model import Decoder

_FUSED = {
    "qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}
_PLAIN = {
    "input_norm.weight": "input_layernorm.weight",
    "out.weight": "self_attn.o_proj.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "down.weight": "mlp.down_proj.weight",
}


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder ready to serve. Raises UnusableModel that names the file or tensor at fault."""
    config = ModelConfig.load(folder)
    found = _tensors(folder)
    wanted = _names(config)
    if missing := sorted({name for names in wanted.values() for name in names} - set(found)):
        raise UnusableModel(f"{folder}: the weights lack {missing[0]} ({len(missing)} tensors in all)")
    model = Decoder(config)
    with torch.no_grad():
        for ours, names in wanted.items():
            parameter = model.get_parameter(ours)
            value = torch.cat([found[name] for name in names]) if len(names) > 1 else found[names[0]]
            if value.shape != parameter.shape:
                raise UnusableModel(
                    f"{folder}: {names[0]} has shape {tuple(value.shape)}, not {tuple(parameter.shape)}"
                )
            parameter.copy_(value)
    return model.to(dtype).eval().requires_grad_(False)


def export(model: Decoder) -> dict[str, Tensor]:
    """The weights under Hugging Face's names, split as it splits them."""
    config, found = model.config, {}
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for ours, names in _names(config).items():
        value: Any = model.get_parameter(ours).detach()
        sizes = [queries, keys, keys] if ours.endswith("qkv.weight") else [config.intermediate_size] * 2
        parts = value.split(sizes) if len(names) > 1 else (value,)
        found.update({name: part.contiguous().clone() for name, part in zip(names, parts, strict=True)})
    return found


def _names(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Our parameter -> the tensors it is made of."""
    names: dict[str, tuple[str, ...]] = {
        "embed.weight": ("model.embed_tokens.weight",),
        "norm.weight": ("model.norm.weight",),
    }
    if not config.tied:
        names["head.weight"] = ("lm_head.weight",)
    for layer in range(config.layers):
        theirs = f"model.layers.{layer}."
        for ours, parts in _FUSED.items():
            names[f"layers.{layer}.{ours}"] = tuple(theirs + part for part in parts)
        for ours, part in _PLAIN.items():
            names[f"layers.{layer}.{ours}"] = (theirs + part,)
    return names


def _tensors(folder: Path) -> dict[str, Tensor]:
    index = folder / "model.safetensors.index.json"
    files = (
        sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    found: dict[str, Tensor] = {}
    for name in files:
        try:
            with safe_open(folder / name, framework="pt") as shard:
                found.update({key: shard.get_tensor(key) for key in shard.keys()})  # noqa: SIM118 - no dict
        except (OSError, SafetensorError) as error:
            raise UnusableModel(f"{folder / name}: cannot be read as safetensors: {error}") from None
    return found
