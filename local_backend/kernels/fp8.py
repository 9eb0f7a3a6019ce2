"""Products of fp8 weights with a few rows, where time is what it takes to read the weights: they go to the tensor cores
as they are, where a GPU has such (compute capability 8.9 on). Those of Hopper keep some 14 bits of a sum (DeepSeek-V3,
arXiv 2412.19437, 3.3.2): over 14,336 inputs that is as much as rounding to bf16, a tenth of what fp8 rounds. Sums are
added in one order however many rows there are."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from local_backend.kernels.product import shared

# Outputs of a program, as few as Hopper's tensor cores take, and inputs read at once: as measured on an H200.
ACROSS, DEEP, WARPS = 64, 256, 4
_TOP = tl.constexpr(448.0)


def by_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [rows, columns] as e4m3, and the scale of each row, fp32 [rows]."""
    rows, columns = x.shape
    out, scale = (
        torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device),
        x.new_empty(rows, dtype=torch.float32),
    )
    _by_rows[(rows,)](x, out, scale, columns, x.stride(0), ACROSS=1024, num_warps=4)
    return out, scale


def product(
    rows: Tensor, step: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, out: Tensor, lines: int
) -> Tensor:
    """rows e4m3 [rows, inputs] of scales `step` times weight e4m3 [outputs, inputs] of scales `scale`, into `out`
    [rows, outputs]. The weights are read once for every `lines` of the rows, 16 or 32."""
    outputs, inputs = weight.shape
    _product[(triton.cdiv(outputs, ACROSS), triton.cdiv(len(rows), lines))](
        rows, step, weight, scale, scale if bias is None else bias, out, len(rows), outputs, inputs,
        BIASED=bias is not None, ACROSS=ACROSS, DEEP=DEEP, LINES=lines, num_warps=WARPS,
        num_stages=stages_for(lines, outputs, shared(rows.device)),
    )  # fmt: skip
    return out


def stages_for(lines: int, outputs: int, memory: int) -> int:
    """Reads that are on their way: more of them where there are few programs, and no more than `memory` bytes hold."""
    return min(4 if outputs >= 16_384 else 6, memory // ((ACROSS + lines) * DEEP))


@triton.jit
def _by_rows(x, out, scale, columns, x_row, ACROSS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    most = tl.full([ACROSS], 1e-30, tl.float32)
    for begin in range(0, columns, ACROSS):
        at = begin + tl.arange(0, ACROSS)
        found = tl.load(x + row * x_row + at, mask=at < columns, other=0.0).to(tl.float32)
        most = tl.maximum(most, tl.abs(found))
    step = tl.max(most, 0) / _TOP
    tl.store(scale + row, step)
    for begin in range(0, columns, ACROSS):
        at = begin + tl.arange(0, ACROSS)
        found = tl.load(x + row * x_row + at, mask=at < columns, other=0.0).to(tl.float32)
        tl.store(out + row * columns + at, (found / step).to(tl.float8e4nv), mask=at < columns)


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, step, weight, scale, bias, out, rows, outputs, inputs,
    BIASED: tl.constexpr, ACROSS: tl.constexpr, DEEP: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    row = tl.program_id(1) * LINES + tl.arange(0, LINES)
    real, asked = at < outputs, row < rows
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
            x + row[None, :].to(tl.int64) * inputs + deep[:, None],
            mask=asked[None, :] & there[:, None],
            other=0.0,
        )
        total = tl.dot(w, v, total)
    total = total * tl.load(scale + at, mask=real, other=0.0)[:, None]
    total = total * tl.load(step + row, mask=asked, other=0.0)[None, :]
    if BIASED:
        total += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)[:, None]
    to = out + row[None, :].to(tl.int64) * outputs + at[:, None]
    tl.store(to, total.to(out.dtype.element_ty), mask=real[:, None] & asked[None, :])
