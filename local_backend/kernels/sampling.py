"""Draws that never leave the device, of the same noise as `sampler.py`'s: by greatest logit + noise, among those that
top-k, top-p and min-p leave. Their thresholds are searched bit by bit instead of sorting the row; what ties with the
last one kept is kept."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# SplitMix64, as in sampler.py
_GAMMA, _FIRST, _SECOND = (
    tl.constexpr(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Asked(NamedTuple):
    """Of each row: `temperature` fp32, 0 for the likeliest; `keys` int64 of its noise; `top_k` int32, 0 for all;
    `top_p` and `min_p` fp32. `filters`: whether any row asks for one of those three."""

    temperature: Tensor
    keys: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    filters: bool


def draw(logits: Tensor, asked: Asked, chunk: int, out: Tensor | None = None) -> Tensor:
    """One id int64 [rows] for each row of fp32 logits [rows, vocabulary], of which `chunk` are read at once (a power of
    two); the first of equals. Into `out` where that is given."""
    rows, size = logits.shape
    chunks = triton.cdiv(size, chunk)
    least = logits.new_full((rows,), -torch.inf)
    if asked.filters:
        _thresholds[(rows,)](
            logits,
            least,
            asked.temperature,
            asked.top_k,
            asked.top_p,
            asked.min_p,
            size,
            CHUNK=chunk,
            num_warps=8,
        )
    values, ids = logits.new_empty(rows, chunks), logits.new_empty(rows, chunks, dtype=torch.int64)
    _best[(rows, chunks)](
        logits, least, asked.temperature, asked.keys, values, ids, size, CHUNK=chunk, num_warps=8
    )
    drawn = logits.new_empty(rows, dtype=torch.int64) if out is None else out
    _pick[(rows,)](values, ids, drawn, chunks, CHUNKS=triton.next_power_of_2(chunks), num_warps=1)
    return drawn


@triton.jit
def _best(logits, least, temperature, keys, values, ids, size, CHUNK: tl.constexpr):
    row, chunk = tl.program_id(0), tl.program_id(1)
    warmth = tl.load(temperature + row)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    found = _scaled(logits, row, at, size, warmth)
    if warmth > 0:
        noise = _noise(at, tl.load(keys + row))
        found = tl.where(found >= tl.load(least + row), found + noise, -float("inf"))
    place = row * tl.num_programs(1) + chunk
    best, index = tl.max(found, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(values + place, best)
    # Of a row that is NaN nothing is the best: what is drawn is in the vocabulary even so.
    tl.store(ids + place, tl.minimum(chunk * CHUNK + index, size - 1).to(tl.int64))


@triton.jit
def _pick(values, ids, drawn, chunks, CHUNKS: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, CHUNKS)
    found = tl.load(values + row * chunks + at, mask=at < chunks, other=-float("inf"))
    tl.store(drawn + row, tl.load(ids + row * chunks + tl.argmax(found, 0, tie_break_left=True)))


@triton.jit
def _noise(at, key):
    """Gumbel noise of token ids: a function of (seed, choice, position), which are the key, and the id alone."""
    z = (at + 1).to(tl.uint64) * _GAMMA + key.to(tl.uint64)
    z = (z ^ (z >> 30)) * _FIRST
    z = (z ^ (z >> 27)) * _SECOND
    z = z ^ (z >> 31)
    uniform = ((z >> 41).to(tl.int32).to(tl.float32) + 0.5) * (1.0 / 8388608.0)
    return -tl.log(-tl.log(uniform))


@triton.jit
def _scaled(logits, row, at, size, warmth):
    """fp32 logits over the temperature; minus infinity beyond the vocabulary."""
    found = tl.load(logits + row.to(tl.int64) * size + at, mask=at < size, other=-float("inf"))
    return found / tl.where(warmth > 0, warmth, 1.0)


@triton.jit
def _thresholds(logits, least, temperature, top_k, top_p, min_p, size, CHUNK: tl.constexpr):
    """The least scaled logit that a row may draw."""
    row = tl.program_id(0)
    warmth = tl.load(temperature + row)
    k, p, share = tl.load(top_k + row), tl.load(top_p + row), tl.load(min_p + row)
    if (warmth > 0) & ((k > 0) | (p < 1.0) | (share > 0)):
        best = tl.full([], -float("inf"), tl.float32)
        for start in range(0, size, CHUNK):
            found = _scaled(logits, row, start + tl.arange(0, CHUNK), size, warmth)
            best = tl.maximum(best, tl.max(found, 0))
        bound = tl.full([], -float("inf"), tl.float32)
        if k > 0:
            goal = tl.minimum(k, size).to(tl.float32)
            bound = _reach(logits, row, size, warmth, best, bound, goal, False, CHUNK)
        if p < 1.0:
            mass = tl.full([], 0.0, tl.float32)
            for start in range(0, size, CHUNK):
                found = _scaled(logits, row, start + tl.arange(0, CHUNK), size, warmth)
                mass += tl.sum(tl.where(found >= bound, tl.exp(found - best), 0.0), 0)
            nucleus = _reach(logits, row, size, warmth, best, bound, mass * p, True, CHUNK)
            bound = tl.maximum(bound, nucleus)
        if share > 0:
            bound = tl.maximum(bound, best + tl.log(share))
        tl.store(least + row, bound)


@triton.jit
def _reach(logits, row, size, warmth, best, bound, goal, MASS: tl.constexpr, CHUNK: tl.constexpr):
    """The greatest scaled logit such that those from it on are `goal` in number, or in probability among those from
    `bound` on. Two bits of it at a time, of integers that are ordered as the numbers are."""
    reached = tl.full([], 0, tl.uint32)
    one = tl.full([], 1 << 30, tl.uint32)
    for _ in range(16):
        first = tl.full([], 0.0, tl.float32)
        second = tl.full([], 0.0, tl.float32)
        third = tl.full([], 0.0, tl.float32)
        for start in range(0, size, CHUNK):
            at = start + tl.arange(0, CHUNK)
            found = _scaled(logits, row, at, size, warmth)
            weight = tl.where(at < size, 1.0, 0.0)
            if MASS:
                weight = tl.where(found >= bound, tl.exp(found - best), 0.0)
            order = _ordered(found)
            first += tl.sum(tl.where(order >= reached + one, weight, 0.0), 0)
            second += tl.sum(tl.where(order >= reached + one * 2, weight, 0.0), 0)
            third += tl.sum(tl.where(order >= reached + one * 3, weight, 0.0), 0)
        digit = (first >= goal).to(tl.uint32) + (second >= goal).to(tl.uint32) + (third >= goal).to(tl.uint32)
        reached += digit * one
        one = one >> 2
    bits = tl.where(reached >= 0x80000000, reached ^ 0x80000000, reached ^ 0xFFFFFFFF)
    return tl.where(reached == 0, -float("inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def _ordered(found):
    """Unsigned integers that compare as the fp32 numbers do."""
    bits = found.to(tl.uint32, bitcast=True)
    return tl.where(bits >= 0x80000000, bits ^ 0xFFFFFFFF, bits ^ 0x80000000)
