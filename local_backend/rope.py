"""Rotary positions (Su et al., 2021): what config.json says of them, and the frequencies that follow. Torch-free."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, frozen=True)
class Scaling:
    """How frequencies are stretched for contexts longer than the model was first trained on."""

    kind: str = "default"
    factor: float = 1.0
    original: int = 0  # positions of the first training
    low: float = 1.0  # llama3: low_freq_factor; yarn: beta_slow
    high: float = 4.0  # llama3: high_freq_factor; yarn: beta_fast
    truncate: bool = True  # yarn: borders on whole dimensions
    attention: float = 1.0  # cos and sin are multiplied by it
    factors: tuple[float, ...] = ()  # longrope: one for each frequency

    @property
    def reach(self) -> int:
        """Positions the scaling is made for, where it says so; else 0."""
        return round(self.factor * self.original) if self.kind == "yarn" else 0


UNSCALED = Scaling()


def scaling_of(raw: Mapping[str, Any], positions: int) -> tuple[Scaling, float, float, float]:
    """(scaling, theta, theta of windowed layers or 0, rotated part of each head) of a config.json, in the words of
    transformers 4 (`rope_scaling`) or 5 (`rope_parameters`). Raises ValueError, KeyError."""
    rope: Mapping[str, Any] = raw.get("rope_parameters") or {}
    window_theta = raw.get("rope_local_base_freq", 0.0)
    if "full_attention" in rope:
        local = rope.get("sliding_attention") or {}
        if local.get("rope_type", "default") != "default":
            raise ValueError("scaled rotary positions of windowed layers are not supported")
        window_theta = local.get("rope_theta", window_theta)
        rope = rope["full_attention"]
    rope = {**rope, **(raw.get("rope_scaling") or {})}
    theta = float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    partial = float(rope.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if "long_factor" in rope:
        kind = "longrope"  # early Phi-3 called it su, or yarn
    if kind not in _KINDS:
        raise ValueError(f"rotary positions of the kind {kind} are not supported; {', '.join(_KINDS)} are")
    original = int(
        raw.get("original_max_position_embeddings")
        or rope.get("original_max_position_embeddings")
        or positions
    )
    return _KINDS[kind](rope, original, positions), theta, float(window_theta), partial


def frequencies(scaling: Scaling, theta: float, size: int) -> list[float]:
    """Radians per position of the `size` / 2 pairs of a head."""
    half = size // 2
    plain = [theta ** (-pair / half) for pair in range(half)]
    if scaling.kind == "linear":
        return [one / scaling.factor for one in plain]
    if scaling.kind == "llama3":
        return [_llama3(one, scaling) for one in plain]
    if scaling.kind == "yarn":
        return _yarn(plain, scaling, theta, size)
    if scaling.kind == "longrope":
        if len(scaling.factors) != half:
            raise ValueError(f"{len(scaling.factors)} factors are told for {half} frequencies")
        return [one / factor for one, factor in zip(plain, scaling.factors, strict=True)]
    return plain


def check_rotation(scaling: Scaling, theta: float, size: int) -> None:
    """Raises ValueError for what would fail, or give no numbers, once the weights are loaded."""
    what = "rotary positions cannot be computed by what is said of them"
    if size < 2 or size % 2:
        raise ValueError(f"{what}: {size} elements of a head are no pairs")
    if not 1 < theta < math.inf:
        raise ValueError(f"{what}: rope_theta must be above 1, not {theta}")
    try:
        found = frequencies(scaling, theta, size)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None
    if not all(0 < one < math.inf for one in (*found, scaling.attention)):
        raise ValueError(f"{what}: factors must be above 0")


def _llama3(one: float, scaling: Scaling) -> float:
    """Slow waves are stretched, fast ones kept, those between mixed."""
    turns = scaling.original * one / (2 * math.pi)  # within the first training's context
    share = min(1.0, max(0.0, (turns - scaling.low) / (scaling.high - scaling.low)))
    return (1 - share) * one / scaling.factor + share * one


def _yarn(plain: list[float], scaling: Scaling, theta: float, size: int) -> list[float]:
    """Peng et al., 2023: a ramp over the dimensions from kept to stretched."""

    def dimension(turns: float) -> float:
        return size * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = dimension(scaling.high), dimension(scaling.low)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    found = []
    for pair, one in enumerate(plain):
        stretched = min(1.0, max(0.0, (pair - first) / ((last - first) or 0.001)))
        found.append(stretched * one / scaling.factor + (1 - stretched) * one)
    return found


def _read_default(rope: Mapping[str, Any], original: int, positions: int) -> Scaling:
    return UNSCALED


def _read_linear(rope: Mapping[str, Any], original: int, positions: int) -> Scaling:
    return Scaling("linear", float(rope["factor"]))


def _read_llama3(rope: Mapping[str, Any], original: int, positions: int) -> Scaling:
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    return Scaling("llama3", float(rope["factor"]), original, low, high)


def _read_yarn(rope: Mapping[str, Any], original: int, positions: int) -> Scaling:
    factor = float(rope.get("factor") or positions / original)
    attention = rope.get("attention_factor")
    if attention is None:
        part, whole = rope.get("mscale"), rope.get("mscale_all_dim")
        attention = (
            _magnitude(factor, part) / _magnitude(factor, whole) if part and whole else _magnitude(factor, 1)
        )
    return Scaling(
        "yarn",
        factor,
        original,
        low=float(rope.get("beta_slow") or 1),
        high=float(rope.get("beta_fast") or 32),
        truncate=bool(rope.get("truncate", True)),
        attention=float(attention),
    )


def _magnitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _read_longrope(rope: Mapping[str, Any], original: int, positions: int) -> Scaling:
    """A model that reaches past its first training uses the long factors throughout: keys in the cache cannot
    change theirs when a conversation grows past it."""
    factor = float(rope.get("factor") or positions / original)
    attention = rope.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    factors = rope["long_factor" if positions > original else "short_factor"]
    return Scaling(
        "longrope", factor, original, attention=float(attention), factors=tuple(map(float, factors))
    )


_KINDS = {
    "default": _read_default,
    "linear": _read_linear,
    "llama3": _read_llama3,
    "yarn": _read_yarn,
    "longrope": _read_longrope,
}
