"""Products whose sums are taken in one order however many rows there are. torch's libraries choose theirs by the number
of rows, so that a text could depend on who shares the batch: what `--deterministic` is to rule out, at some cost: on
an H200 18 us for a row of 6,144 x 4,096 instead of 15, and 47 instead of 31 for one of 4,096 x 14,336."""

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.knobs import runtime

LINES = 64  # rows of a tile


class Cut(NamedTuple):
    """Outputs and inputs of a tile, and how many reads are on their way."""

    across: int
    deep: int
    stages: int
    warps: int


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [rows, inputs] times weight [outputs, inputs], both of one type, which sums in fp32 are rounded to."""
    rows, inputs = x.shape
    outputs = len(weight)
    cut = cut_for(outputs, x.dtype.itemsize, shared(x.device))
    x, out = x.contiguous(), x.new_empty(rows, outputs)
    _product[(triton.cdiv(outputs, cut.across), triton.cdiv(rows, LINES))](
        x, weight, weight if bias is None else bias, out, rows, outputs, inputs, BIASED=bias is not None, LINES=LINES,
        ACROSS=cut.across, DEEP=cut.deep, WIDE=is_widened(x.dtype), num_warps=cut.warps, num_stages=cut.stages,
    )  # fmt: skip
    return out


def cut_for(outputs: int, width: int, memory: int) -> Cut:
    """As measured on an H200: by a layer's size alone, which is the same for every row. `width`: bytes of a number."""
    cut = Cut(128, 64, 4, 8) if outputs >= 16_384 else Cut(64, 128, 4, 4)
    return cut._replace(stages=max(1, min(cut.stages, memory // ((LINES + cut.across) * cut.deep * width))))


@cache
def shared(device: torch.device) -> int:
    """Bytes of shared memory that a program may have."""
    if device.type == "cpu":
        return 1 << 20
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 99 << 10)


def is_widened(dtype: torch.dtype) -> bool:
    """The interpreter of Triton 3.6 cannot multiply bf16."""
    return runtime.interpret and dtype is torch.bfloat16


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, weight, bias, out, rows, outputs, inputs,
    BIASED: tl.constexpr, LINES: tl.constexpr, ACROSS: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    line = tl.program_id(1) * LINES + tl.arange(0, LINES)
    real, asked = at < outputs, line < rows
    total = tl.zeros([LINES, ACROSS], tl.float32)
    for begin in range(0, inputs, DEEP):
        deep = begin + tl.arange(0, DEEP)
        there = deep < inputs
        a = tl.load(
            x + line[:, None].to(tl.int64) * inputs + deep[None, :],
            mask=asked[:, None] & there[None, :],
            other=0.0,
        )
        b = tl.load(
            weight + at[None, :].to(tl.int64) * inputs + deep[:, None],
            mask=real[None, :] & there[:, None],
            other=0.0,
        )
        if WIDE:
            a, b = a.to(tl.float32), b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision="ieee")
    if BIASED:
        total += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)[None, :]
    to = out + line[:, None].to(tl.int64) * outputs + at[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=asked[:, None] & real[None, :])
