"""Linear layers and tables of fp8 weights (e4m3; Micikevicius et al., 2022), one scale per output, multiplied by fp8
activations, one scale per token (row), so that a row's scale depends on no other row."""

import torch
from torch import Tensor, nn

from local_backend import devices
from local_backend.kernels import ready

E4M3 = torch.float8_e4m3fn
TOP = 448.0  # the largest number of e4m3
FEW = 32  # rows up to which our own kernel reads the weights: then it is their bytes that cost time
_SLICE = 1 << 19  # elements of a matrix that are widened at once: they stay in a processor's cache


class Fp8(nn.Module):
    """A linear layer. On GPUs that multiply fp8 (compute capability 8.9 on) by torch's row-wise product, a few rows by
    a kernel of ours. Elsewhere the numbers are widened for each product, which is slow but keeps their memory; on a
    processor to fp64, in which sums of fp8 products are exact: a row's result depends on no other row."""

    weight: Tensor
    scale: Tensor
    steady = False  # whether sums are taken in one order however many rows there are, by a kernel

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """`weight` e4m3 [outputs, inputs], `scale` fp32 [outputs]."""
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self.register_buffer("weight", weight.contiguous(), persistent=False)
        self.register_buffer("scale", scale.contiguous(), persistent=False)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> "Fp8":
        """`weight` [outputs, inputs] in any float type."""
        return cls(*by_rows(weight), bias)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1 and self.takes(1):
            from local_backend.kernels import few

            return few.single(x, self.weight, self.scale, self.bias, x.new_empty(1, len(self.weight)))
        if ready(x.device):
            from local_backend.kernels import fp8

            rows, step = fp8.by_rows(x)
            if len(x) <= FEW or self.steady:
                lines = 16 if self.steady or len(x) <= 16 else 32
                out = x.new_empty(len(x), len(self.weight))
                return fp8.product(rows, step, self.weight, self.scale, self.bias, out, lines)
        else:
            rows, step = by_rows(x)
        if _multiplies(rows, self.weight):
            found = torch._scaled_mm(
                rows, self.weight.T, scale_a=step[:, None], scale_b=self.scale[None], out_dtype=torch.bfloat16
            )
            return (found if self.bias is None else found + self.bias).to(x.dtype)
        found = self._widened(rows).float() * step[:, None] * self.scale
        return (found if self.bias is None else found + self.bias).to(x.dtype)

    def takes(self, rows: int) -> bool:
        """Whether a kernel takes so many rows as they are: of one it is reading the weights that costs time."""
        return rows == 1 and not self.steady and ready(self.weight.device)

    def _widened(self, rows: Tensor) -> Tensor:
        outputs, inputs = self.weight.shape
        kind = torch.float64 if rows.device.type == "cpu" else torch.bfloat16
        x, each = rows.to(kind), max(1, _SLICE // inputs)
        return torch.cat(
            [x @ widen(self.weight[at : at + each], kind).T for at in range(0, outputs, each)], 1
        )


class Fp8Embedding(nn.Module):
    """Rows of a table in fp8, one scale each, read as `kind`."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, kind: torch.dtype) -> None:
        """`weight` e4m3 [rows, columns], `scale` fp32 [rows]."""
        super().__init__()
        self.kind = kind
        self.register_buffer("weight", weight.contiguous(), persistent=False)
        self.register_buffer("scale", scale.contiguous(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.weight.view(torch.uint8)[ids].view(E4M3)
        return (rows.float() * self.scale[ids][:, None]).to(self.kind)


def by_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """e4m3 [rows, columns] and the scale of each row, fp32 [rows]; a large matrix slice by slice, for its copies in
    fp32 would not fit beside it."""
    rows = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(len(x), device=x.device)
    each = max(1, _SLICE // max(1, x.shape[1]))
    for at in range(0, len(x), each):
        part = x[at : at + each].float()
        step = part.abs().amax(1).clamp_min(1e-30) / TOP
        rows[at : at + each], scale[at : at + each] = (part / step[:, None]).to(E4M3), step
    return rows, scale


def widen(x: Tensor, kind: torch.dtype) -> Tensor:
    """The same numbers in another type. On a processor by way of fp16, whose bits are those of e4m3 moved by 7 and
    stand for a 256th: six times as fast as torch 2.13's own way. There is no such way for NaN: weights hold none."""
    if x.device.type != "cpu":
        return x.to(kind)
    bits = (x.view(torch.int8).to(torch.int16) << 7) & ~(1 << 14)
    return bits.view(torch.float16).to(kind) * 256


def _multiplies(rows: Tensor, weight: Tensor) -> bool:
    """Whether the device has a product of such rows and weights."""
    if rows.device.type != "cuda" or torch.cuda.get_device_capability(rows.device) < devices.FP8:
        return False
    return weight.shape[0] % 16 == 0 and weight.shape[1] % 16 == 0
