"""Linear layers of int4 weights in groups of inputs, as GPTQ and AWQ make them; what flows stays in floats."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from local_backend.checkpoint import Grouped
from local_backend.kernels import ready

_UNITS = (256, 128, 64, 32)  # inputs that share a scale in torch's product, and in ours
_OUTPUTS = 16  # that torch's takes at once
# Rows up to which our product is faster than to widen the weights for torch's, which takes some 100 us for a matrix of
# 28,672 x 4,096 on an H200: an estimate.
MOST = 128


class Int4(nn.Module):
    """A linear layer on a processor, by torch's product of packed weights: in bf16, or in fp32 where that is asked
    for, which is exact and slow. Every row is computed by itself."""

    weight: Tensor
    scale: Tensor

    def __init__(self, matrix: Grouped, bias: Tensor | None, kind: torch.dtype) -> None:
        """`matrix` is such as `unit_of` has a unit for."""
        super().__init__()
        self._unit = unit_of(matrix)
        numbers, scale, zero, self._order = _in_order(matrix, self._unit)
        # It takes 8 from every number, and adds what is left of the zero after the product with the scale.
        pair = torch.stack([scale.T, (scale * (8 - zero)).T], -1).to(
            torch.float32 if kind == torch.float32 else torch.bfloat16
        )
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int(), 1)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("scale", pair.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        taken = x if self._order is None else x[:, self._order]
        found: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            taken.to(self.scale.dtype).contiguous(), self.weight, self._unit, self.scale
        )
        return (found.to(x.dtype) if self.bias is None else found + self.bias).to(x.dtype)


class Int4ByKernel(nn.Module):
    """A linear layer where kernels are ready, in `kind`. `steady`: its sums are taken in one order however many rows
    there are."""

    weight: Tensor
    scale: Tensor
    zero: Tensor
    steady = False

    def __init__(self, matrix: Grouped, bias: Tensor | None, kind: torch.dtype) -> None:
        """`matrix` is such as `unit_of` has a unit for."""
        super().__init__()
        from local_backend.kernels import int4

        self._unit, self._kind = unit_of(matrix), kind
        numbers, scale, zero, self._order = _in_order(matrix, self._unit)
        self._inputs = numbers.shape[1]
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self.register_buffer("weight", int4.pack(numbers, self._unit), persistent=False)
        self.register_buffer("scale", scale.contiguous(), persistent=False)
        self.register_buffer("zero", zero.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        from local_backend.kernels import int4

        taken = (x if self._order is None else x[:, self._order]).to(self._kind)
        weight = int4.Packed(self.weight, self.scale, self.zero, self._inputs, self._unit)
        if len(x) == 1 and not self.steady:
            found = int4.single(taken, weight, self.bias)
        elif len(x) <= MOST or self.steady:
            lines = int4.MANY if self.steady or len(x) > int4.FEW else int4.FEW
            found = int4.product(taken, weight, self.bias, lines)
        else:
            wide = int4.widened(weight, self._kind)
            found = functional.linear(taken, wide, None if self.bias is None else self.bias.to(self._kind))
        return found.to(x.dtype)


def layer_of(matrix: Grouped, bias: Tensor | None, kind: torch.dtype) -> nn.Module | None:
    """None where there is no product for it: then it is widened."""
    if not unit_of(matrix):
        return None
    return (Int4ByKernel if ready(matrix.numbers.device) else Int4)(matrix, bias, kind)


def unit_of(matrix: Grouped) -> int:
    """How many inputs share a scale once they are in the order of their groups; 0 where there is no product for it."""
    device = matrix.numbers.device
    if not ready(device) and (device.type != "cpu" or len(matrix.numbers) % _OUTPUTS):
        return 0
    sizes = matrix.groups.bincount()
    return next((unit for unit in _UNITS if not (sizes % unit).any()), 0)


def _in_order(matrix: Grouped, unit: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Numbers with those of a group side by side; scale and zero [outputs, inputs / unit]; the order of the inputs,
    where it is another one."""
    assert unit, "a matrix without one is widened"
    order = matrix.groups.argsort(stable=True)
    in_order = bool((matrix.groups.diff() >= 0).all())
    numbers = matrix.numbers if in_order else matrix.numbers[:, order]
    each = matrix.groups[order[::unit]]
    return numbers, matrix.scale[:, each], matrix.zero[:, each], None if in_order else order
