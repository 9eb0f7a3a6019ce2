"""The small steps between matrix products, several in one launch each. Sums are taken in fp32, what comes out has the
type that is asked for."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from local_backend.kernels.early import early, wait

_TOP = tl.constexpr(448.0)  # the largest number of e4m3
_HEADS = 8  # of one token that a program turns: an estimate, not yet measured


def add_norm(
    x: Tensor, more: Tensor | None, scale: float, weight: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """Add `more` * `scale` to x [rows, size], in place, and give the root-mean-square norm of the sum."""
    out = torch.empty_like(x, dtype=dtype)
    _launch_norm(x, more, scale, weight, eps, out)
    return out


def norm_in_place(x: Tensor, weight: Tensor, eps: float) -> None:
    """x [rows, size], whose rows may lie apart."""
    _launch_norm(x, None, 1.0, weight, eps, x)


def gated(rows: Tensor, gelu: bool) -> Tensor:
    """act(gate) * up of rows [tokens, 2 * size] that hold both; GELU by its tanh form, else SiLU."""
    tokens, both = rows.shape
    out = rows.new_empty(tokens, both // 2)
    across = 1024
    _gated[(tokens, triton.cdiv(both // 2, across))](
        rows, out, both // 2, GELU=gelu, ACROSS=across, **early(rows.device)
    )
    return out


def turn_and_store(
    rows: Tensor,
    heads: int,
    norms: tuple[Tensor, Tensor, float] | None,
    turn: tuple[Tensor, Tensor] | None,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    scales: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Norm and turn queries and keys of rows [tokens, heads + 2 * kv_heads, size]; store keys and values in one
    layer's cache [blocks, block_size, kv_heads, size] at `slots` [tokens], of which those below 0 are nowhere; give
    the queries. `norms`: weights of the queries' and the keys' norms, and their epsilon; `turn`: cos and signed sin
    [tokens, 1, turned], of the first dimensions."""
    tokens, all_heads, size = rows.shape
    q = rows.new_empty(tokens, heads, size)
    q_norm, k_norm, eps = norms or (rows, rows, 0.0)  # not read where there are none
    cos, sin = turn or (rows, rows)
    turned = cos.shape[-1] if turn else 0
    key_scales, value_scales = scales or (keys, values)  # not written where there are none
    _turn[(tokens, triton.cdiv(all_heads, _HEADS))](
        rows, q, q_norm, k_norm, eps, cos, sin, keys, values, key_scales, value_scales, slots,
        QUERIES=heads, KV=(all_heads - heads) // 2, SCALED=scales is not None,
        SIZE=size, DIMS=triton.next_power_of_2(size), TURNED=turned, NORMED=norms is not None, HEADS=_HEADS,
        **early(rows.device),
    )  # fmt: skip
    return q


def _launch_norm(
    x: Tensor, more: Tensor | None, scale: float, weight: Tensor, eps: float, out: Tensor
) -> None:
    rows, size = x.shape
    across = triton.next_power_of_2(size)
    added = x if more is None else more
    _norm[(rows,)](
        x, added, scale, weight, eps, out, x.stride(0), added.stride(0), out.stride(0), size, MORE=more is not None,
        ACROSS=across, num_warps=min(16, max(1, across // 512)), **early(x.device),
    )  # fmt: skip


@triton.jit
def _norm(
    x, more, scale, weight, eps, out, x_row, more_row, out_row, size, MORE: tl.constexpr, ACROSS: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, ACROSS)
    real = at < size
    weights = tl.load(weight + at, mask=real, other=0.0).to(tl.float32)
    wait(EARLY)
    found = tl.load(x + row * x_row + at, mask=real, other=0.0).to(tl.float32)
    if MORE:
        found += tl.load(more + row * more_row + at, mask=real, other=0.0).to(tl.float32) * scale
        tl.store(x + row * x_row + at, found.to(x.dtype.element_ty), mask=real)
    root = tl.rsqrt(tl.sum(found * found, 0) / size + eps)
    found = found * root * weights
    tl.store(out + row * out_row + at, found.to(out.dtype.element_ty), mask=real)


@triton.jit
def _gated(rows, out, size, GELU: tl.constexpr, ACROSS: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)
    real = at < size
    gate = tl.load(rows + row * 2 * size + at, mask=real, other=0.0).to(tl.float32)
    up = tl.load(rows + row * 2 * size + size + at, mask=real, other=0.0).to(tl.float32)
    tl.store(out + row * size + at, (opened(gate, GELU) * up).to(out.dtype.element_ty), mask=real)


@triton.jit
def opened(gate, GELU: tl.constexpr):
    """SiLU, or GELU in its tanh form: x / 2 * (1 + tanh(y)) = x * sigmoid(2 y)."""
    if GELU:
        gate = gate * tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))
    else:
        gate = gate * tl.sigmoid(gate)
    return gate


@triton.jit
def _turn(
    rows, q, q_norm, k_norm, eps, cos, sin, keys, values, key_scales, value_scales, slots,
    QUERIES: tl.constexpr, KV: tl.constexpr, SIZE: tl.constexpr, DIMS: tl.constexpr, TURNED: tl.constexpr,
    NORMED: tl.constexpr, SCALED: tl.constexpr, HEADS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    dims = tl.arange(0, DIMS)
    real = (head < QUERIES + 2 * KV)[:, None] & (dims < SIZE)[None, :]
    from_row = rows + token * (QUERIES + 2 * KV) * SIZE + head[:, None] * SIZE
    asks, is_value = head < QUERIES, head >= QUERIES + KV
    found = tl.load(from_row + dims[None, :], mask=real, other=0.0).to(tl.float32)

    root = tl.full([HEADS], 1.0, tl.float32)
    if NORMED:
        root = tl.where(is_value, 1.0, tl.rsqrt(tl.sum(found * found, 1) / SIZE + eps))
        found = found * root[:, None] * _weights(q_norm, k_norm, asks, is_value, dims, dims < SIZE)
    if TURNED > 0:
        turns = dims < TURNED
        other = tl.where(dims < TURNED // 2, dims + TURNED // 2, dims - TURNED // 2)
        other = tl.where(turns, other, dims)
        beside = tl.load(from_row + other[None, :], mask=real, other=0.0).to(tl.float32)
        if NORMED:
            beside = beside * root[:, None] * _weights(q_norm, k_norm, asks, is_value, other, dims < SIZE)
        c = tl.load(cos + token * TURNED + dims, mask=turns, other=1.0)
        s = tl.load(sin + token * TURNED + dims, mask=turns, other=0.0)
        found = tl.where(is_value[:, None], found, found * c[None, :] + beside * s[None, :])

    to_q = q + token * QUERIES * SIZE + head[:, None] * SIZE + dims[None, :]
    tl.store(to_q, found.to(q.dtype.element_ty), mask=real & asks[:, None])
    slot = tl.load(slots + token).to(tl.int64)
    kept = real & (slot >= 0)
    is_key = (asks == 0) & (is_value == 0)
    if SCALED:
        step = tl.maximum(tl.max(tl.abs(found), 1), 1e-30) / _TOP
        found = found / step[:, None]
        to_scale = slot * KV + head - QUERIES
        tl.store(key_scales + to_scale, step, mask=is_key & (slot >= 0))
        tl.store(value_scales + to_scale - KV, step, mask=is_value & (head < QUERIES + 2 * KV) & (slot >= 0))
    to_keys = keys + slot * KV * SIZE + (head - QUERIES)[:, None] * SIZE + dims[None, :]
    tl.store(to_keys, found.to(keys.dtype.element_ty), mask=kept & is_key[:, None])
    to_values = values + slot * KV * SIZE + (head - QUERIES - KV)[:, None] * SIZE + dims[None, :]
    tl.store(to_values, found.to(values.dtype.element_ty), mask=kept & is_value[:, None])


@triton.jit
def _weights(q_norm, k_norm, asks, is_value, dims, real):
    """Of the norm that each head goes through; 1 for values, which go through none."""
    of_q = tl.load(q_norm + dims, mask=real, other=0.0).to(tl.float32)
    of_k = tl.load(k_norm + dims, mask=real, other=0.0).to(tl.float32)
    return tl.where(is_value[:, None], 1.0, tl.where(asks[:, None], of_q[None, :], of_k[None, :]))
