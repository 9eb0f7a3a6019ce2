"""Products of a few rows, where time is what it takes to read the weights: one row by plain sums, whose reads wait for
nothing, up to 32 by tiles as tensor cores take them. On an H200 they read at 0.7 to 0.97 of a copy's speed, the smaller
the matrix the slower; torch's own products took a tenth longer, and of the smallest up to four times as long."""

from enum import IntEnum
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from local_backend.kernels.early import early, wait
from local_backend.kernels.fused import opened
from local_backend.kernels.product import is_widened, shared

_LARGE = 65_536  # outputs from which on tiles are the faster way for one row too: a vocabulary


class Gate(IntEnum):
    """What is done to the first half of the outputs, before the second is multiplied by it."""

    NONE, SILU, GELU = range(3)


class Cut(NamedTuple):
    """Outputs of a program; inputs read at once, and how many such reads are on their way."""

    across: int
    deep: int
    stages: int
    warps: int


def product(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """x [rows, inputs] times weight [outputs, inputs], both of one type, into `out` [rows, outputs], rounded once."""
    if len(x) == 1 and len(weight) < _LARGE:
        return single(x, weight, None, bias, out)
    rows, inputs = x.shape
    outputs = len(weight)
    lines = 16 if rows <= 16 else 32
    cut = cut_for(lines, outputs, shared(x.device))
    _product[(triton.cdiv(outputs, cut.across),)](
        x.contiguous(), weight, weight if bias is None else bias, out, rows, outputs, inputs, BIASED=bias is not None,
        LINES=lines, ACROSS=cut.across, DEEP=cut.deep, WIDE=is_widened(x.dtype), num_warps=cut.warps,
        num_stages=cut.stages, **early(x.device),
    )  # fmt: skip
    return out


def single(
    x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, out: Tensor, gate: Gate = Gate.NONE
) -> Tensor:
    """The same for one row x [1, inputs]; of fp8 weights by the `scale` fp32 of each output. With a gate `out` [1,
    outputs / 2] is act(first half) * second half."""
    inputs, outputs = x.shape[1], out.shape[1]
    cut = cut_for_one(inputs, gate is not Gate.NONE, scale is not None)
    _single[(triton.cdiv(outputs, cut.across),)](
        x.contiguous(), weight, weight if scale is None else scale, weight if bias is None else bias, out, outputs,
        inputs, GATE=int(gate), BIASED=bias is not None, SCALED=scale is not None, ACROSS=cut.across, DEEP=cut.deep,
        num_warps=cut.warps, **early(x.device),
    )  # fmt: skip
    return out


def cut_for(lines: int, outputs: int, shared: int) -> Cut:
    """As measured on an H200: enough programs for all its processors, and no more than they hold at once. Where there
    are fewer bytes of shared memory for a program, fewer reads are on their way."""
    if outputs >= 5_000:
        cut = Cut(64, 128, 4 if outputs >= 16_384 else 6, 4)
    elif lines == 16:
        cut = Cut(16, 256, 6, 2)
    else:
        cut = Cut(32, 256, 5, 4) if outputs >= 2_048 else Cut(16, 256, 6, 4)
    return cut._replace(stages=min(cut.stages, shared // ((cut.across + lines) * cut.deep * 2)))


def cut_for_one(inputs: int, gated: bool, scaled: bool) -> Cut:
    """Of a gate a program has a pair of rows for each output."""
    if scaled:
        return Cut(2 if gated else 4, 2048, 1, 4)
    across = 1 if gated else 2
    return Cut(across, 2048, 1, 8) if inputs >= 8_192 else Cut(across, 1024, 1, 4)


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, weight, bias, out, rows, outputs, inputs,
    BIASED: tl.constexpr, LINES: tl.constexpr, ACROSS: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    line = tl.arange(0, LINES)
    real, asked = at < outputs, line < rows
    wait(EARLY)
    total = tl.zeros([ACROSS, LINES], tl.float32)
    for begin in range(0, inputs, DEEP):
        deep = begin + tl.arange(0, DEEP)
        there = deep < inputs
        w = tl.load(
            weight + at[:, None].to(tl.int64) * inputs + deep[None, :],
            mask=real[:, None] & there[None, :],
            other=0.0,
        )
        v = tl.load(
            x + line[None, :].to(tl.int64) * inputs + deep[:, None],
            mask=asked[None, :] & there[:, None],
            other=0.0,
        )
        if WIDE:
            w, v = w.to(tl.float32), v.to(tl.float32)
        total = tl.dot(w, v, total, input_precision="ieee")
    if BIASED:
        total += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)[:, None]
    to = out + line[None, :].to(tl.int64) * outputs + at[:, None]
    tl.store(to, total.to(out.dtype.element_ty), mask=real[:, None] & asked[None, :])


@triton.jit
def _single(
    x, weight, scale, bias, out, outputs, inputs,
    GATE: tl.constexpr, BIASED: tl.constexpr, SCALED: tl.constexpr, ACROSS: tl.constexpr, DEEP: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    real = at < outputs
    wait(EARLY)
    total = tl.zeros([ACROSS, DEEP], tl.float32)
    other = tl.zeros([ACROSS, DEEP], tl.float32)
    for begin in range(0, inputs, DEEP):
        deep = begin + tl.arange(0, DEEP)
        there = real[:, None] & (deep < inputs)[None, :]
        v = tl.load(x + deep, mask=deep < inputs, other=0.0).to(tl.float32)[None, :]
        places = at[:, None].to(tl.int64) * inputs + deep[None, :]
        total += tl.load(weight + places, mask=there, other=0.0).to(tl.float32) * v
        if GATE > 0:
            places += outputs.to(tl.int64) * inputs
            other += tl.load(weight + places, mask=there, other=0.0).to(tl.float32) * v
    found = _ended(tl.sum(total, 1), scale, bias, at, real, SCALED, BIASED)
    if GATE > 0:
        found = opened(found, GATE == 2) * _ended(
            tl.sum(other, 1), scale + outputs, bias + outputs, at, real, SCALED, BIASED
        )
    tl.store(out + at, found.to(out.dtype.element_ty), mask=real)


@triton.jit
def _ended(total, scale, bias, at, real, SCALED: tl.constexpr, BIASED: tl.constexpr):
    if SCALED:
        total = total * tl.load(scale + at, mask=real, other=0.0)
    if BIASED:
        total += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)
    return total
