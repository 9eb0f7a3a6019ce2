"""Products with int4 weights in groups of inputs: they are read as they are packed and widened in registers. Sums are
added in one order for as many rows as a tile holds."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.knobs import runtime

from local_backend.kernels.early import early, wait
from local_backend.kernels.product import is_widened

FEW, MANY = 16, 32  # rows of a tile
_STRIPES = tl.constexpr(4)  # of a block: a word has four bits for each
_JOINED = tl.constexpr(512)  # sums of a program that joins what splits found
# What widens two neighbours at once: (two words >> 4 * stripe) & nibbles | the bits of 128 in bf16, of 1024 in fp16,
# whose last bits are whole numbers. A GPU does half as many operations on integers as on floats, and conversions.
_CODE = "{{ .reg .b32 t; shr.b32 t, $1, {}; lop3.b32 $0, t, 0x000F000F, {}, 0xEA; }}"
_BF16 = tl.constexpr(tuple(_CODE.format(4 * stripe, 0x43004300) for stripe in range(4)))
_FP16 = tl.constexpr(tuple(_CODE.format(4 * stripe, 0x64006400) for stripe in range(4)))
# The same of one in fp32, where it lies.
_BASE, _BITS = tl.constexpr(2.0**23), tl.constexpr(0x4B000000)


class Packed(NamedTuple):
    """`words` int16 [outputs, inputs / 4], filled up to whole blocks of four stripes; `scale` and `zero` fp32 [outputs,
    inputs / unit]. What is meant is (number - zero) * scale."""

    words: Tensor
    scale: Tensor
    zero: Tensor
    inputs: int
    unit: int

    @property
    def stripe(self) -> int:
        """Inputs side by side whose numbers lie in the same four bits of as many words; they share a scale."""
        return stripe_of(self.unit)


class Cut(NamedTuple):
    """Outputs of a program, and into how many parts their inputs are split, each for a program."""

    across: int
    splits: int


def stripe_of(unit: int) -> int:
    return min(unit, 64)


def pack(numbers: Tensor, unit: int) -> Tensor:
    """numbers uint8 [outputs, inputs] of 4 bits as words."""
    stripe = stripe_of(unit)
    filled = torch.nn.functional.pad(numbers, (0, -numbers.shape[1] % (4 * stripe)))
    stripes = filled.view(len(numbers), -1, 4, stripe)
    words = torch.zeros_like(stripes[:, :, 0], dtype=torch.int16)
    for number in range(4):
        words |= stripes[:, :, number].to(torch.int16) << 4 * number
    return words.flatten(1).contiguous()


def single(x: Tensor, weight: Packed, bias: Tensor | None) -> Tensor:
    """One row x [1, inputs] times `weight`: [1, outputs] of x's type."""
    outputs = len(weight.words)
    across, blocks = (8, 4) if outputs >= 16_384 else (4, 8)
    out = x.new_empty(1, outputs)
    _single[(triton.cdiv(outputs, across),)](
        x.contiguous(), *weight[:3], weight.scale if bias is None else bias, out, outputs, weight.inputs,
        _BITS.value, UNIT=weight.unit, STRIPE=weight.stripe, BIASED=bias is not None, ACROSS=across, BLOCKS=blocks,
        num_warps=2, **early(x.device),
    )  # fmt: skip
    return out


def product(x: Tensor, weight: Packed, bias: Tensor | None, lines: int) -> Tensor:
    """x [rows, inputs] times `weight`: [rows, outputs] of x's type. `lines`: rows of a tile."""
    rows, outputs = len(x), len(weight.words)
    cut, how = cut_for(outputs, weight.inputs, weight.stripe), early(x.device)
    out, split = x.new_empty(rows, outputs), cut.splits > 1
    to = x.new_empty(cut.splits, rows, outputs, dtype=torch.float32) if split else out
    added = weight.scale if bias is None else bias
    _product[(triton.cdiv(outputs, cut.across), triton.cdiv(rows, lines), cut.splits)](
        x.contiguous(), *weight[:3], added, to, rows, outputs, weight.inputs, UNIT=weight.unit, STRIPE=weight.stripe,
        BIASED=bias is not None and not split, ACROSS=cut.across, LINES=lines, BASE=base_of(x.dtype),
        WIDE=is_widened(x.dtype), num_warps=4, num_stages=3 if x.dtype.itemsize == 2 else 2, **how,
    )  # fmt: skip
    if split:
        _join[(triton.cdiv(out.numel(), _JOINED.value),)](
            to,
            added,
            out,
            out.numel(),
            outputs,
            SPLITS=cut.splits,
            BIASED=bias is not None,
            num_warps=4,
            **how,
        )
    return out


def widened(weight: Packed, dtype: torch.dtype) -> Tensor:
    """What is meant, [outputs, inputs]."""
    outputs, across = len(weight.words), 16
    out = weight.scale.new_empty(outputs, weight.inputs, dtype=dtype)
    _widen[(triton.cdiv(outputs, across), triton.cdiv(weight.inputs, 4 * weight.stripe))](
        *weight[:3], out, outputs, weight.inputs, _BITS.value, UNIT=weight.unit, STRIPE=weight.stripe, ACROSS=across,
        num_warps=4, **early(out.device),
    )  # fmt: skip
    return out


def cut_for(outputs: int, inputs: int, stripe: int) -> Cut:
    """Some four programs for each processor of an H200, and four blocks of inputs at least for each."""
    blocks, across = -(-inputs // (4 * stripe)), 64
    return Cut(across, max(1, min(8, blocks // 4, 512 // -(-outputs // across))))


def base_of(dtype: torch.dtype) -> int:
    """What numbers of this type are too large by as they are multiplied; 0: they are converted one by one."""
    return 0 if runtime.interpret else {torch.bfloat16: 128, torch.float16: 1024}.get(dtype, 0)


@triton.jit
def _opened(words, NUMBER: tl.constexpr, BASE: tl.constexpr, dtype: tl.constexpr):
    """The numbers of one stripe in a type for products, plus BASE."""
    if BASE == 0:
        found = ((words >> (4 * NUMBER)) & 15).to(dtype)
    else:
        code: tl.constexpr = _BF16[NUMBER] if BASE == 128 else _FP16[NUMBER]
        found = tl.inline_asm_elementwise(code, "=r,r", [words], dtype=tl.int16, is_pure=True, pack=2)
        found = found.to(dtype, bitcast=True)
    return found


@triton.jit
def _exact(words, zero, NUMBER: tl.constexpr, base):
    """The same in fp32, less the zeros of their outputs, which are shaped to meet them. `base`: the bits of 2^23; as a
    constant beside that of the mask it would take an operation of its own."""
    UNIT: tl.constexpr = 1.0 / (1 << (4 * NUMBER))
    found = ((words.to(tl.int32) & (15 << (4 * NUMBER))) | base).to(tl.float32, bitcast=True)
    return found * UNIT - (zero + _BASE * UNIT)


@triton.jit(do_not_specialize=["base"])
def _single(
    x, words, scale, zero, bias, out, outputs, inputs, base,
    UNIT: tl.constexpr, STRIPE: tl.constexpr, BIASED: tl.constexpr, ACROSS: tl.constexpr, BLOCKS: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    real = at < outputs
    blocks, inside = tl.cdiv(inputs, _STRIPES * STRIPE), tl.arange(0, STRIPE)
    groups = at * (inputs // UNIT)
    wait(EARLY)
    total = tl.zeros([ACROSS, BLOCKS, STRIPE], tl.float32)
    for begin in range(0, blocks, BLOCKS):
        block = begin + tl.arange(0, BLOCKS)
        place = (at * blocks)[:, None, None] + block[None, :, None]
        there = real[:, None, None] & (block < blocks)[None, :, None]
        found = tl.load(words + place * STRIPE + inside[None, None, :], mask=there, other=0)
        for share in tl.static_range(_STRIPES * STRIPE // UNIT):
            group = block * (_STRIPES * STRIPE // UNIT) + share
            held = real[:, None] & (group < inputs // UNIT)[None, :]
            middle = tl.load(zero + groups[:, None] + group[None, :], mask=held, other=0.0)
            sums = tl.zeros([ACROSS, BLOCKS, STRIPE], tl.float32)
            for number in tl.static_range(share * UNIT // STRIPE, (share + 1) * UNIT // STRIPE):
                first = (block * _STRIPES + number)[:, None] * STRIPE
                v = tl.load(x + first + inside[None, :], mask=first < inputs, other=0.0)
                sums += _exact(found, middle[:, :, None], number, base) * v.to(tl.float32)[None, :, :]
            step = tl.load(scale + groups[:, None] + group[None, :], mask=held, other=0.0)
            total += sums * step[:, :, None]
    answer = tl.sum(tl.sum(total, 2), 1)
    if BIASED:
        answer += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)
    tl.store(out + at, answer.to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, words, scale, zero, bias, out, rows, outputs, inputs,
    UNIT: tl.constexpr, STRIPE: tl.constexpr, BIASED: tl.constexpr, ACROSS: tl.constexpr, LINES: tl.constexpr,
    BASE: tl.constexpr, WIDE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Zeros, and what numbers are too large by, are taken off a group's sum: as many times the sum of its inputs, which
    tensor cores find beside it."""
    at = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS)
    line = tl.program_id(1) * LINES + tl.arange(0, LINES)
    split = tl.program_id(2)
    real, asked = at < outputs, line < rows
    blocks, inside = tl.cdiv(inputs, _STRIPES * STRIPE), tl.arange(0, STRIPE)
    each = tl.cdiv(blocks, tl.num_programs(2))
    dtype: tl.constexpr = tl.float32 if WIDE else x.dtype.element_ty
    ones = tl.full([ACROSS, STRIPE], 1.0, dtype)
    wait(EARLY)
    total = tl.zeros([ACROSS, LINES], tl.float32)
    for block in range(split * each, tl.minimum(blocks, (split + 1) * each)):
        place = (at * blocks + block)[:, None] * STRIPE + inside[None, :]
        found = tl.load(words + place, mask=real[:, None], other=0)
        for share in tl.static_range(_STRIPES * STRIPE // UNIT):
            group = block * (_STRIPES * STRIPE // UNIT) + share
            held = real & (group < inputs // UNIT)
            middle = tl.load(zero + at * (inputs // UNIT) + group, mask=held, other=0.0) + BASE
            step = tl.load(scale + at * (inputs // UNIT) + group, mask=held, other=0.0)
            sums = tl.zeros([ACROSS, LINES], tl.float32)
            whole = tl.zeros([ACROSS, LINES], tl.float32)
            for number in tl.static_range(share * UNIT // STRIPE, (share + 1) * UNIT // STRIPE):
                first = (block * _STRIPES + number) * STRIPE
                v = tl.load(
                    x + line[None, :] * inputs + (first + inside)[:, None],
                    mask=asked[None, :] & (first < inputs),
                    other=0.0,
                ).to(dtype)
                sums = tl.dot(_opened(found, number, BASE, dtype), v, sums, input_precision="ieee")
                whole = tl.dot(ones, v, whole, input_precision="ieee")
            total += (sums - whole * middle[:, None]) * step[:, None]
    if BIASED:
        total += tl.load(bias + at, mask=real, other=0.0).to(tl.float32)[:, None]
    to = out + (split * rows + line)[None, :] * outputs + at[:, None]
    tl.store(to, total.to(out.dtype.element_ty), mask=real[:, None] & asked[None, :])


@triton.jit(do_not_specialize=["size"])
def _join(parts, bias, out, size, outputs, SPLITS: tl.constexpr, BIASED: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    at = tl.program_id(0) * _JOINED + tl.arange(0, _JOINED)
    there = at < size
    total = tl.zeros([_JOINED], tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(parts + split * size + at, mask=there, other=0.0)
    if BIASED:
        total += tl.load(bias + at % outputs, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["base"])
def _widen(
    words, scale, zero, out, outputs, inputs, base,
    UNIT: tl.constexpr, STRIPE: tl.constexpr, ACROSS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    at, block = tl.program_id(0) * ACROSS + tl.arange(0, ACROSS), tl.program_id(1)
    real, inside = at < outputs, tl.arange(0, STRIPE)
    row, blocks = at.to(tl.int64)[:, None], tl.cdiv(inputs, _STRIPES * STRIPE)
    found = tl.load(words + (row * blocks + block) * STRIPE + inside[None, :], mask=real[:, None], other=0)
    for number in tl.static_range(_STRIPES):
        first = (block * _STRIPES + number) * STRIPE
        held = (real & (first < inputs))[:, None]
        group = row * (inputs // UNIT) + first // UNIT
        middle = tl.load(zero + group, mask=held, other=0.0)
        meant = _exact(found, middle, number, base) * tl.load(scale + group, mask=held, other=0.0)
        tl.store(out + row * inputs + first + inside[None, :], meant.to(out.dtype.element_ty), mask=held)
