"""How far each layer of a decoder sees, by what its folder says: in some families only some see all. Torch-free."""

from collections.abc import Mapping
from typing import Any

from local_backend.families import Family


def unrotated_of(raw: Mapping[str, Any], layers: int) -> frozenset[int]:
    """Layers without rotary positions: `no_rope_layers` holds a 1 for each that does rotate."""
    marks, every = raw.get("no_rope_layers"), raw.get("no_rope_layer_interval")
    if marks is None and every:
        marks = [int((layer + 1) % every != 0) for layer in range(layers)]
    return frozenset(layer for layer, mark in enumerate(marks or []) if not mark)


def windows_of(
    family: Family, raw: Mapping[str, Any], layers: int, unrotated: frozenset[int]
) -> tuple[int, ...]:
    """Tokens each layer sees, its own included; 0 for all. Raises ValueError."""
    size = raw.get("sliding_window") or 0
    if type(size) is not int or size < 0:
        raise ValueError(f"sliding_window must be a whole number from 0 on, not {size!r:.40}")
    optional = family.window in ("upper", "unrotated")
    if not family.window or (optional and not raw.get("use_sliding_window")):
        size = 0
    kinds = raw.get("layer_types")
    if kinds and family.window != "all":
        if len(kinds) < layers:
            raise ValueError(f"layer_types must name the kind of all {layers} layers")
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
