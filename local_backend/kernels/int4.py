"""Products with int4 weights in groups of inputs: they are read as they are packed and widened in registers. Sums are
added in one order for as many rows as a tile holds."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.knobs import runtime

# Estimates, not yet measured: outputs of a program, and how many reads are on their way.
ACROSS, STAGES, WARPS = 64, 3, 4
# Inputs whose numbers lie in the lower halves of as many bytes, and the next as many in the upper halves. As
# many share a scale at least.
HALF = 32
FEW, MANY = 16, 64  # rows of a tile


def pack(numbers: Tensor) -> Tensor:
    """numbers uint8 [outputs, inputs] of 4 bits: uint8 [outputs, inputs / 2], the inputs filled up to whole blocks."""
    outputs, inputs = numbers.shape
    filled = torch.nn.functional.pad(numbers, (0, -inputs % (2 * HALF)))
    low, high = filled.view(outputs, -1, 2, HALF).unbind(2)
    return (low | high << 4).flatten(1).contiguous()


def product(
    x: Tensor, packed: Tensor, scale: Tensor, zero: Tensor, unit: int, bias: Tensor | None, lines: int
) -> Tensor:
    """x [rows, inputs] times what `packed` means: (number - zero) * scale, of which `unit` inputs share one, fp32
    [outputs, inputs / unit]: [rows, outputs] of x's type. `lines`: rows of a tile."""
    rows, inputs = x.shape
    outputs = len(packed)
    x, out = x.contiguous(), x.new_empty(rows, outputs)
    _product[(triton.cdiv(outputs, ACROSS), triton.cdiv(rows, lines))](
        x, packed, scale, zero, scale if bias is None else bias, out, rows, outputs, inputs, UNIT=unit,
        BIASED=bias is not None, ACROSS=ACROSS, HALF=HALF, LINES=lines,
        WIDE=runtime.interpret and x.dtype is torch.bfloat16, num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, packed, scale, zero, bias, out, rows, outputs, inputs, UNIT: tl.constexpr, BIASED: tl.constexpr,
    ACROSS: tl.constexpr, HALF: tl.constexpr, LINES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    line = tl.program_id(1) * LINES + tl.arange(0, LINES)
    real, asked = at < outputs, line < rows
    total = tl.zeros([ACROSS, LINES], tl.float32)
    across = tl.cdiv(inputs, 2 * HALF) * HALF  # bytes of an output
    groups = at.to(tl.int64) * (inputs // UNIT)
    for begin in range(0, inputs, 2 * HALF):
        byte = begin // 2 + tl.arange(0, HALF)
        pair = tl.load(
            packed + at[:, None].to(tl.int64) * across + byte[None, :], mask=real[:, None], other=0
        )
        for upper in tl.static_range(2):
            first = begin + upper * HALF
            deep = first + tl.arange(0, HALF)
            held = real & (first < inputs)
            v = tl.load(
                x + line[None, :].to(tl.int64) * inputs + deep[:, None],
                mask=asked[None, :] & (deep < inputs)[:, None],
                other=0.0,
            )
            if WIDE:  # the interpreter of Triton 3.6 cannot multiply bf16
                v = v.to(tl.float32)
            middle = tl.load(zero + groups + first // UNIT, mask=held, other=0.0)
            number = ((pair >> (4 * upper)) & 15).to(tl.float32) - middle[:, None]  # whole: exact in any type
            found = tl.dot(number.to(v.dtype), v, input_precision="ieee")
            total += found * tl.load(scale + groups + first // UNIT, mask=held, other=0.0)[:, None]
    if BIASED:
        total += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)[:, None]
    to = out + line[None, :].to(tl.int64) * outputs + at[:, None]
    tl.store(to, total.to(out.dtype.element_ty), mask=real[:, None] & asked[None, :])
