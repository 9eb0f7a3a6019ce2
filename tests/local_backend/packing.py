"""Checkpoints of fewer bits, made by the letter of the published formats, word by word: a folder with packed matrices,
and beside it one with the numbers that they stand for, in fp32."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Made = tuple[
    dict[str, Tensor], Tensor
]  # tensors by the ends of their names, and the matrix that they stand for


class Int4(NamedTuple):
    """Random numbers of 4 bits: `numbers` [outputs, inputs], `zeros` and `scales` [groups, outputs], `g_idx` [inputs],
    the same for all matrices of as many inputs."""

    numbers: Any
    zeros: Any
    scales: Any
    g_idx: Any

    def meant(self) -> Tensor:
        numbers = self.numbers - self.zeros[self.g_idx].T
        return torch.from_numpy(numbers * self.scales.astype(numpy.float32)[self.g_idx].T).float()


def draw(matrix: Tensor, group: int, *, symmetric: bool = False, shuffled: bool = False) -> Int4:
    """Of a matrix's shape and size of numbers; `group` 0: one for all inputs."""
    outputs, inputs = matrix.shape
    dice = numpy.random.default_rng(outputs * inputs)
    groups = inputs // group if group else 1
    zeros = numpy.full((groups, outputs), 8) if symmetric else dice.integers(0, 16, (groups, outputs))
    scales = (dice.uniform(0.5, 1.5, (groups, outputs)) * float(matrix.std()) / 8).astype(numpy.float16)
    g_idx = numpy.arange(inputs) // (group or inputs)
    if shuffled:
        g_idx = numpy.random.default_rng(inputs).permutation(g_idx)
    return Int4(dice.integers(0, 16, (outputs, inputs)), zeros, scales, g_idx)


def gptq(made: Int4, *, v2: bool = False, with_g_idx: bool = True) -> dict[str, Tensor]:
    """Eight inputs in a word of qweight, eight outputs in a word of qzeros, the first lowest. Before version 2 one is
    taken from all zeros of a word at once, as from one number."""
    outputs, inputs = made.numbers.shape
    words = numpy.zeros((inputs // 8, outputs), numpy.int64)
    for at in range(inputs):
        words[at // 8] |= made.numbers[:, at] << 4 * (at % 8)
    zeros = numpy.zeros((len(made.zeros), outputs // 8), numpy.int64)
    for at in range(outputs):
        zeros[:, at // 8] |= made.zeros[:, at] << 4 * (at % 8)
    if not v2:
        zeros = zeros - 0x11111111
    found = {"qweight": word(words), "qzeros": word(zeros), "scales": torch.from_numpy(made.scales)}
    return {**found, "g_idx": torch.from_numpy(made.g_idx.astype(numpy.int32))} if with_g_idx else found


def awq(made: Int4) -> dict[str, Tensor]:
    """Eight outputs in a word: its nibbles, the lowest first, hold the outputs 0, 2, 4, 6, 1, 3, 5, 7."""
    outputs, inputs = made.numbers.shape
    words = numpy.zeros((inputs, outputs // 8), numpy.int64)
    zeros = numpy.zeros((len(made.zeros), outputs // 8), numpy.int64)
    for column in range(outputs // 8):
        for nibble, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words[:, column] |= made.numbers[column * 8 + output] << 4 * nibble
            zeros[:, column] |= made.zeros[:, column * 8 + output] << 4 * nibble
    return {"qweight": word(words), "qzeros": word(zeros), "scales": torch.from_numpy(made.scales)}


def word(numbers: Any) -> Tensor:
    return torch.from_numpy((numbers & 0xFFFFFFFF).astype(numpy.uint32).view(numpy.int32).copy())


def fp8_by_rows(matrix: Tensor) -> Made:
    scale = matrix.abs().amax(1, keepdim=True) / 448
    weight = (matrix / scale).to(torch.float8_e4m3fn)
    return {"weight": weight, "weight_scale": scale}, weight.float() * scale


def fp8_whole(matrix: Tensor) -> Made:
    scale = matrix.abs().max() / 448
    weight = (matrix / scale).to(torch.float8_e4m3fn)
    found = {"weight": weight, "weight_scale": scale, "input_scale": torch.tensor(0.25)}
    return found, weight.float() * scale


def fp8_by_blocks(matrix: Tensor, block: int = 32, name: str = "weight_scale_inv") -> Made:
    outputs, inputs = matrix.shape
    scale = torch.empty(-(-outputs // block), -(-inputs // block))
    weight, meant = torch.empty(outputs, inputs, dtype=torch.float8_e4m3fn), torch.empty(outputs, inputs)
    for row in range(len(scale)):
        for column in range(scale.shape[1]):
            rows, columns = (
                slice(row * block, row * block + block),
                slice(column * block, column * block + block),
            )
            scale[row, column] = matrix[rows, columns].abs().max() / 448
            weight[rows, columns] = (matrix[rows, columns] / scale[row, column]).to(torch.float8_e4m3fn)
            meant[rows, columns] = weight[rows, columns].float() * scale[row, column]
    return {"weight": weight, name: scale}, meant


def rewrite(
    source: Path, packed: Path, plain: Path, config: dict[str, Any], pack: Callable[[Tensor], Made]
) -> None:
    """Every matrix of a layer of `source`, in two folders; embeddings, norms and biases stay as they are."""
    tensors = load_file(source / "model.safetensors")
    of_fewer: dict[str, Tensor] = {}
    of_all: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            found, meant = pack(tensor)
            of_fewer |= {name.removesuffix("weight") + end: one.contiguous() for end, one in found.items()}
            of_all[name] = meant.contiguous()
        else:
            of_fewer[name] = of_all[name] = tensor
    facts = json.loads((source / "config.json").read_text())
    for folder, kept, more in ((packed, of_fewer, {"quantization_config": config}), (plain, of_all, {})):
        folder.mkdir()
        save_file(kept, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({**facts, **more}))
