"""Matrices as published checkpoints keep them, read to the very numbers that their formats define. Rows are a matrix's
outputs, columns its inputs, whichever way round they lie in a file."""

from typing import NamedTuple

import torch
from torch import Tensor

from local_backend.config import UnusableModel
from local_backend.fp8 import E4M3
from local_backend.stored import Stored
from local_backend.weights import Weights

_WORDS = torch.int32
# In which nibble of a word AWQ's gemm format keeps each of its eight outputs (Lin et al., 2023; AutoAWQ's packing).
_AWQ = [0, 4, 1, 5, 2, 6, 3, 7]
# Beside matrices of fp8: fixed scales of activations, and of keys and values. Ours are each token's own.
UNUSED = (".input_scale", ".k_scale", ".v_scale")


class Scaled(NamedTuple):
    """`weight` e4m3 [rows, columns], `scale` fp32 [rows]."""

    weight: Tensor
    scale: Tensor

    def dense(self) -> Tensor:
        return self.weight.float().mul_(self.scale[:, None])


class Grouped(NamedTuple):
    """`numbers` uint8 [rows, columns] of 4 bits; `scale` and `zero` fp32 [rows, groups]; `groups` int64 [columns]:
    whose scale and zero are a column's. What is meant is (number - zero) * scale."""

    numbers: Tensor
    scale: Tensor
    zero: Tensor
    groups: Tensor

    def dense(self) -> Tensor:
        return (self.numbers.float() - self.zero[:, self.groups]).mul_(self.scale[:, self.groups])


Matrix = Tensor | Scaled | Grouped


def dense(matrix: Matrix) -> Tensor:
    return matrix if isinstance(matrix, Tensor) else matrix.dense()


def is_there(weights: Weights, name: str) -> bool:
    """Whether a module of theirs has a matrix, whichever way it is kept."""
    return f"{name}.weight" in weights or f"{name}.qweight" in weights


def read_matrix(
    weights: Weights, stored: Stored, name: str, shape: tuple[int, int], cut: tuple[slice, slice]
) -> Matrix:
    """What `cut` says of the rows and columns of a module's matrix. One that the checkpoint left alone is a tensor.
    Raises UnusableModel for tensors that are not there or are shaped otherwise."""
    if stored.kind == "fp8":
        return _fp8(weights, stored, name, shape, cut)
    if f"{name}.qweight" not in weights:
        return weights.read(f"{name}.weight", shape, cut)
    if any(size % 8 for size in shape):
        raise UnusableModel(
            f"{weights.folder}: {name} has the shape {shape}, which words of 8 do not make up"
        )
    return (
        _gptq(weights, stored, name, shape, cut)
        if stored.kind == "gptq"
        else _awq(weights, stored, name, shape, cut)
    )


def joined(parts: list[Matrix]) -> Matrix:
    """One below the other."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(one, Scaled) for one in parts):
        return Scaled(*(torch.cat(column) for column in zip(*parts, strict=True)))
    grouped = [one for one in parts if isinstance(one, Grouped)]
    if len(grouped) == len(parts) and all(torch.equal(one.groups, grouped[0].groups) for one in grouped):
        numbers, scale, zero, _ = zip(*grouped, strict=True)
        return Grouped(torch.cat(numbers), torch.cat(scale), torch.cat(zero), grouped[0].groups)
    return torch.cat([dense(one) for one in parts])


def _fp8(
    weights: Weights, stored: Stored, name: str, shape: tuple[int, int], cut: tuple[slice, slice]
) -> Matrix:
    weight = weights.read(f"{name}.weight", shape, cut, E4M3)
    if weight.dtype is not E4M3:
        return weight
    name_of_scale = f"{name}.weight_scale"
    if f"{name_of_scale}_inv" in weights:  # DeepSeek's name; it is multiplied by as the others are
        name_of_scale += "_inv"
    scale = weights.read(name_of_scale).float()
    if stored.block is not None:
        deep, wide = stored.block
        _check(weights, name_of_scale, scale, (-(-shape[0] // deep), -(-shape[1] // wide)))
        rows, columns = (torch.arange(one.start, one.stop, device=weight.device) for one in cut)
        return weight.float().mul_(scale[rows // deep][:, columns // wide])
    if scale.numel() == 1:
        return _kept(stored, Scaled(weight, scale.reshape(1).expand(len(weight)).clone()))
    if tuple(scale.shape) != (shape[0],):
        _check(weights, name_of_scale, scale, (shape[0], 1))
    return _kept(stored, Scaled(weight, scale.flatten()[cut[0]].clone()))


def _kept(stored: Stored, matrix: Scaled) -> Matrix:
    return matrix if stored.kept else matrix.dense()


def _gptq(
    weights: Weights, stored: Stored, name: str, shape: tuple[int, int], cut: tuple[slice, slice]
) -> Grouped:
    """Words of eight inputs (Frantar et al., 2022; AutoGPTQ's packing): qweight int32 [inputs / 8, outputs], qzeros
    int32 [groups, outputs / 8], scales [groups, outputs], g_idx int32 [inputs], where there is one."""
    (outputs, inputs), (rows, columns) = shape, cut
    words = slice(columns.start // 8, -(-columns.stop // 8))
    packed = weights.read(f"{name}.qweight", (inputs // 8, outputs), (words, rows), _WORDS)
    numbers = _nibbles(packed.T.contiguous())
    numbers = numbers[:, columns.start - 8 * words.start : columns.stop - 8 * words.start]
    if f"{name}.g_idx" in weights:
        groups = weights.read(f"{name}.g_idx", (inputs,), (columns,), _WORDS).long()
        if (
            not 0
            <= int(groups.min())
            <= int(groups.max())
            < (-(-inputs // stored.group) if stored.group else 1)
        ):
            raise UnusableModel(f"{weights.folder}: {name}.g_idx tells of groups that there are not")
    else:
        groups = _in_order(stored, columns, numbers.device)
    scale, words_of_zeros = _scales(weights, stored, name, shape, rows)
    if stored.less_one:
        # Written as if a word were one number, so that a zero of 0 has borrowed from its neighbour: given back so
        words_of_zeros = (words_of_zeros.long() + 0x11111111).to(torch.int32)
    zero = _nibbles(words_of_zeros)[:, rows].T.float()
    return Grouped(numbers, scale, zero.contiguous(), groups)


def _awq(
    weights: Weights, stored: Stored, name: str, shape: tuple[int, int], cut: tuple[slice, slice]
) -> Grouped:
    """Words of eight outputs, which do not lie in their order: qweight int32 [inputs, outputs / 8], qzeros and scales
    as GPTQ's."""
    (outputs, inputs), (rows, columns) = shape, cut
    words = slice(rows.start // 8, -(-rows.stop // 8))
    packed = weights.read(f"{name}.qweight", (inputs, outputs // 8), (columns, words), _WORDS)
    numbers = _nibbles(packed, _AWQ)[:, rows.start - 8 * words.start : rows.stop - 8 * words.start].T
    scale, words_of_zeros = _scales(weights, stored, name, shape, rows)
    zero = _nibbles(words_of_zeros, _AWQ)[:, rows].T.float()
    return Grouped(numbers.contiguous(), scale, zero.contiguous(), _in_order(stored, columns, packed.device))


def _scales(
    weights: Weights, stored: Stored, name: str, shape: tuple[int, int], rows: slice
) -> tuple[Tensor, Tensor]:
    """Those of the rows, fp32 [rows, groups], and the zeros of all rows as they are packed."""
    outputs, inputs = shape
    groups = -(-inputs // stored.group) if stored.group else 1
    scale = weights.read(f"{name}.scales", (groups, outputs), (slice(0, groups), rows)).float()
    return scale.T.contiguous(), weights.read(f"{name}.qzeros", (groups, outputs // 8), packed=_WORDS)


def _in_order(stored: Stored, columns: slice, device: torch.device) -> Tensor:
    return torch.arange(columns.start, columns.stop, device=device) // (stored.group or columns.stop)


def _nibbles(words: Tensor, order: list[int] | None = None) -> Tensor:
    """uint8 [rows, 8 * columns] out of words int32 [rows, columns]: the lowest first, or by `order`."""
    shifts = torch.tensor(order or range(8), dtype=torch.int32, device=words.device) * 4
    return (words[:, :, None] >> shifts & 15).to(torch.uint8).flatten(1)


def _check(weights: Weights, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise UnusableModel(
            f"{weights.folder}: {name} has the shape {tuple(tensor.shape)} where config.json asks for {shape}"
        )
