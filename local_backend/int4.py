"""Linear layers of int4 weights in groups of inputs, as GPTQ and AWQ make them; what flows stays in floats."""

import torch
from torch import Tensor, nn

from local_backend.checkpoint import Grouped

_UNITS = (256, 128, 64, 32)  # inputs that share a scale in torch's product
_OUTPUTS = 16  # that it takes at once


class Int4(nn.Module):
    """A linear layer on a processor, by torch's product of packed weights: in bf16, or in fp32 where that is asked
    for, which is exact and slow. Every row is computed by itself."""

    weight: Tensor
    scale: Tensor

    def __init__(self, matrix: Grouped, bias: Tensor | None, kind: torch.dtype) -> None:
        """`matrix` is such as `unit_of` has a unit for."""
        super().__init__()
        unit = unit_of(matrix)
        assert unit, "a matrix without one is widened"
        self._unit, order = unit, matrix.groups.argsort(stable=True)
        in_order = bool((matrix.groups.diff() >= 0).all())
        numbers = matrix.numbers if in_order else matrix.numbers[:, order]
        each = matrix.groups[order[::unit]]
        scale, zero = matrix.scale[:, each].T, matrix.zero[:, each].T
        # It takes 8 from every number, and adds what is left of the zero after the product with the scale.
        pair = torch.stack([scale, scale * (8 - zero)], -1).to(
            torch.float32 if kind == torch.float32 else torch.bfloat16
        )
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int(), 1)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("scale", pair.contiguous(), persistent=False)
        self._order = None if in_order else order

    def forward(self, x: Tensor) -> Tensor:
        taken = x if self._order is None else x[:, self._order]
        found: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            taken.to(self.scale.dtype).contiguous(), self.weight, self._unit, self.scale
        )
        return (found.to(x.dtype) if self.bias is None else found + self.bias).to(x.dtype)


def unit_of(matrix: Grouped) -> int:
    """How many inputs share a scale once they are in the order of their groups; 0 where there is no product for it."""
    if matrix.numbers.device.type != "cpu" or len(matrix.numbers) % _OUTPUTS:
        return 0
    sizes = matrix.groups.bincount()
    return next((unit for unit in _UNITS if not (sizes % unit).any()), 0)
