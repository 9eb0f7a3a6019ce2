"""Paged attention for ragged queries, prompts and decodes alike.

A program answers a tile of one sequence's queries, all that share one kv head together, over the keys or over one
split of them; what splits found is joined by a second kernel. Tiles and splits begin at fixed places of the
sequence and their size follows from its own piece alone, so that sums are added in one order whoever shares the
batch. After vLLM's unified attention (arXiv 2511.11581).
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.knobs import runtime

from local_backend.kernels.early import early, wait

_JOINED = 16  # splits read at once
_LOG2E = tl.constexpr(1.4426950408889634)
_PRODUCTS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Tiles(NamedTuple):
    """How work is cut. `lines`: query heads of a tile, each of one query; `keys` read at once; `split`: keys of a
    program, a multiple of `keys`, or 0 for all; `stages`: reads that are under way at a time."""

    lines: int
    keys: int
    split: int
    warps: int
    stages: int = 2


class Rows(NamedTuple):
    """Sequences whose queries lie one after the other: `tables` int32 [rows, blocks]; `lengths` int32 [rows], keys of
    each up to its last query, 0 for padding, which is neither read nor written; `starts` int32 [rows + 1], where each
    one's queries begin, and `owners` int32 [queries], the row of each: not read where every row has one query."""

    tables: Tensor
    starts: Tensor
    lengths: Tensor
    owners: Tensor


class Work(NamedTuple):
    """`items` int32 [programs, 3]: row, the tile's first query, the split; None where every row has one query, and as
    many programs as it may have splits. `most`: splits of a row at most."""

    tiles: Tiles
    window: int  # keys that a query sees, its own included; 0: all
    items: Tensor | None
    most: int


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    rows: Rows,
    work: Work,
    scale: float,
    softcap: float = 0.0,
    scales: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Answer q [queries, heads, head_dim] from one layer's cache [blocks, block_size, kv_heads, head_dim] into `out`,
    all of them contiguous. `scales` of keys and values [blocks, block_size, kv_heads], where they are in fp8."""
    queries, heads, size = q.shape
    _, block, kv, _ = keys.shape
    tiles, split = work.tiles, work.most > 1
    parts = q.new_empty((queries, heads, work.most, size) if split else (1,), dtype=torch.float32)
    marks = q.new_empty((queries, heads, work.most, 2) if split else (1,), dtype=torch.float32)
    dims = max(16, triton.next_power_of_2(size))  # a product takes no less
    key_scales, value_scales = scales or (keys, values)  # not read where there are none
    single = work.items is None
    items = rows.lengths if work.items is None else work.items
    programs = len(items) * (work.most if single else 1)
    how = early(q.device)
    _mix[(programs, kv)](
        q, keys, values, key_scales, value_scales, out, parts, marks,
        rows.tables, rows.starts, rows.lengths, items, rows.tables.shape[1], work.most, scale, softcap,
        KV=kv, GROUP=heads // kv, SIZE=size, DIMS=dims, BLOCK=block, LINES=tiles.lines, KEYS=tiles.keys,
        SPLIT=tiles.split, JOINED=split, WINDOW=work.window, CAPPED=softcap > 0,
        SCALED=scales is not None, SINGLE=single, PRODUCT=_product(q.dtype, scales is not None), num_warps=tiles.warps,
        num_stages=tiles.stages, **how,
    )  # fmt: skip
    if split:
        _join[(queries, heads)](
            parts, marks, out, rows.starts, rows.lengths, rows.owners, work.most, SIZE=size, DIMS=dims,
            SPLIT=tiles.split, WINDOW=work.window, JOINED=_JOINED, SINGLE=single, num_warps=4, **how,
        )  # fmt: skip


def _product(dtype: torch.dtype, scaled: bool) -> tl.dtype:
    """In what keys and queries are multiplied; the interpreter of Triton 3.6 cannot multiply bf16. What is kept in fp8
    becomes fp16 in one operation, and bf16 in several."""
    if dtype is torch.bfloat16 and (runtime.interpret or scaled):
        return tl.float32 if runtime.interpret else tl.float16
    return _PRODUCTS[dtype]


@triton.jit(do_not_specialize=["width", "most"])
def _mix(
    q, keys, values, key_scales, value_scales, out, parts, marks, tables, starts, lengths, items, width, most, scale,
    softcap,
    KV: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, DIMS: tl.constexpr, BLOCK: tl.constexpr,
    LINES: tl.constexpr, KEYS: tl.constexpr, SPLIT: tl.constexpr, JOINED: tl.constexpr, WINDOW: tl.constexpr,
    CAPPED: tl.constexpr, SCALED: tl.constexpr, SINGLE: tl.constexpr, PRODUCT: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    item, head = tl.program_id(0), tl.program_id(1)
    if SINGLE:
        row, first, size = item // most, 0, 1
        begin = row
        length = tl.load(lengths + row)
        split = item % most + _skipped(length, size, SPLIT, WINDOW)
        if (length == 0) | (split * SPLIT >= length):
            return
    else:
        row = tl.load(items + item * 3)
        first = tl.load(items + item * 3 + 1)
        split = tl.load(items + item * 3 + 2)
        begin = tl.load(starts + row)
        size = tl.load(starts + row + 1) - begin
        length = tl.where(first < size, tl.load(lengths + row), 0)  # a tile of padding sees no key

    lines = tl.arange(0, LINES)
    query = first + lines // GROUP
    asked = (lines < LINES // GROUP * GROUP) & (query < size)
    at = length - size + query
    dims = tl.arange(0, DIMS)
    real = dims < SIZE
    line = (begin + query).to(tl.int64) * (KV * GROUP) + head * GROUP + lines % GROUP
    held = asked[:, None] & real[None, :]
    asking = tl.load(q + line[:, None] * SIZE + dims[None, :], mask=held, other=0.0).to(PRODUCT)

    high = length - size + tl.minimum(first + LINES // GROUP, size)
    least = 0
    if WINDOW > 0:
        least = tl.maximum(0, length - size + first - WINDOW + 1)
    low = least // KEYS * KEYS
    if SPLIT > 0:
        low = tl.maximum(low, split * SPLIT)
        high = tl.minimum(high, (split + 1) * SPLIT)

    best = tl.full([LINES], -float("inf"), tl.float32)
    total = tl.zeros([LINES], tl.float32)
    mixed = tl.zeros([LINES, DIMS], tl.float32)
    table = tables + row.to(tl.int64) * width
    plain = low
    # Up to there every line sees every key. Only where keys are split: of prompts one loop is faster, and the sums of a
    # line are the same bits whatever else is in its tile.
    if (SPLIT > 0) & (WINDOW == 0):
        plain = tl.maximum(low, tl.minimum(length - size + first + 1, high) // KEYS * KEYS)
        for start in range(low, plain, KEYS):
            best, total, mixed = _see(
                asking, best, total, mixed, keys, values, key_scales, value_scales, table, start, least, high, at,
                dims, scale, softcap, head, KV, SIZE, BLOCK, KEYS, WINDOW, CAPPED, SCALED, False, PRODUCT,
            )  # fmt: skip
    for start in range(plain, high, KEYS):
        best, total, mixed = _see(
            asking, best, total, mixed, keys, values, key_scales, value_scales, table, start, least, high, at,
            dims, scale, softcap, head, KV, SIZE, BLOCK, KEYS, WINDOW, CAPPED, SCALED, True, PRODUCT,
        )  # fmt: skip

    if JOINED:
        place = line * most + split - _skipped(length, size, SPLIT, WINDOW)
        tl.store(parts + place[:, None] * SIZE + dims[None, :], mixed, mask=held)
        tl.store(marks + place * 2, best, mask=asked)
        tl.store(marks + place * 2 + 1, total, mask=asked)
    else:
        answer = mixed / tl.where(asked, total, 1.0)[:, None]
        tl.store(out + line[:, None] * SIZE + dims[None, :], answer.to(out.dtype.element_ty), mask=held)


@triton.jit
def _skipped(length, size, SPLIT: tl.constexpr, WINDOW: tl.constexpr):
    """Splits of a row that its window has left behind."""
    skipped = 0
    if (WINDOW > 0) & (SPLIT > 0):
        skipped = tl.maximum(0, length - size - WINDOW + 1) // SPLIT
    return skipped


@triton.jit
def _see(
    asking, best, total, mixed, keys, values, key_scales, value_scales, table, start, least, high, at, dims, scale,
    softcap, head,
    KV: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, KEYS: tl.constexpr, WINDOW: tl.constexpr,
    CAPPED: tl.constexpr, SCALED: tl.constexpr, HIDES: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """Take the keys from `start` on into account. HIDES: not every line sees all of them."""
    spots = start + tl.arange(0, KEYS)
    real = dims < SIZE
    there = spots >= 0
    if HIDES:
        there = (spots < high) & (spots >= least)
    block = tl.load(table + spots // BLOCK, mask=there, other=0)
    own = (block.to(tl.int64) * BLOCK + spots % BLOCK) * KV + head
    spot = own * SIZE
    k = tl.load(keys + spot[None, :] + dims[:, None], mask=real[:, None] & there[None, :], other=0.0).to(
        PRODUCT
    )
    scores = _scaled(tl.dot(asking, k, input_precision="ieee"), key_scales + own, there, SCALED)
    scores = softcap * _LOG2E * _tanh(scores * (scale / softcap)) if CAPPED else scores * (scale * _LOG2E)
    if HIDES:
        seen = there[None, :] & (spots[None, :] <= at[:, None])
        if WINDOW > 0:
            seen = seen & (spots[None, :] > at[:, None] - WINDOW)
        scores = tl.where(seen, scores, -float("inf"))
    top = tl.maximum(best, tl.max(scores, 1))
    level = tl.where(top == -float("inf"), 0.0, top)  # a line that has seen nothing yet stays at 0
    weights = tl.exp2(scores - level[:, None])
    fade = tl.exp2(best - level)
    total = total * fade + tl.sum(weights, 1)
    weights = _scaled(weights, value_scales + own, there, SCALED)
    v = tl.load(values + spot[:, None] + dims[None, :], mask=there[:, None] & real[None, :], other=0.0).to(
        PRODUCT
    )
    mixed = mixed * fade[:, None] + tl.dot(weights.to(PRODUCT), v, input_precision="ieee")
    return top, total, mixed


@triton.jit
def _scaled(x, scales, there, SCALED: tl.constexpr):
    """x [lines, keys] times what the keys, or values, are kept in units of."""
    if SCALED:
        x = x * tl.load(scales, mask=there, other=0.0)[None, :]
    return x


@triton.jit
def _tanh(x):
    """By way of exp2, for Triton has none."""
    return 1.0 - 2.0 / (tl.exp2(x * (2.0 * _LOG2E)) + 1.0)


@triton.jit(do_not_specialize=["most"])
def _join(
    parts, marks, out, starts, lengths, owners, most,
    SIZE: tl.constexpr, DIMS: tl.constexpr, SPLIT: tl.constexpr, WINDOW: tl.constexpr, JOINED: tl.constexpr,
    SINGLE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    query, head = tl.program_id(0), tl.program_id(1)
    row, size = query, 1
    if not SINGLE:
        row = tl.load(owners + query)
        size = tl.load(starts + row + 1) - tl.load(starts + row)
    length = tl.load(lengths + row)
    if length == 0:
        return
    count = tl.cdiv(length, SPLIT) - _skipped(length, size, SPLIT, WINDOW)

    dims = tl.arange(0, DIMS)
    line = query.to(tl.int64) * tl.num_programs(1) + head
    best = tl.full([], -float("inf"), tl.float32)
    total = tl.full([], 0.0, tl.float32)
    mixed = tl.zeros([DIMS], tl.float32)
    for start in range(0, count, JOINED):
        splits = start + tl.arange(0, JOINED)
        real = splits < count
        place = line * most + splits
        tops = tl.load(marks + place * 2, mask=real, other=-float("inf"))
        sums = tl.load(marks + place * 2 + 1, mask=real, other=0.0)
        found = tl.load(
            parts + place[:, None] * SIZE + dims[None, :],
            mask=real[:, None] & (dims < SIZE)[None, :],
            other=0.0,
        )
        top = tl.maximum(best, tl.max(tops, 0))
        level = tl.where(top == -float("inf"), 0.0, top)
        weights = tl.exp2(tops - level)
        fade = tl.exp2(best - level)
        total = total * fade + tl.sum(sums * weights, 0)
        mixed = mixed * fade + tl.sum(found * weights[:, None], 0)
        best = top
    tl.store(out + line * SIZE + dims, (mixed / total).to(out.dtype.element_ty), mask=dims < SIZE)
