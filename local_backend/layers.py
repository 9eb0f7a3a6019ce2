"""What a model is built of: norms, linear layers of weights in fp32, bf16, fp16 or int8, and rotary tables."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from local_backend.rope import UNSCALED, Scaling, frequencies


class Norm(nn.Module):
    """Root-mean-square norm over the last dimension (Zhang and Sennrich, 2019), in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x.float(), self.weight.shape, self.weight, self._eps).to(x.dtype)


class Dense(nn.Linear):
    """A linear layer whose weights may be of fewer bits than what flows through it."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)


class Int8(nn.Module):
    """A linear layer of int8 weights, one scale per output, and int8 activations, one scale per token (row).

    Sums are whole numbers, so that a row's result depends on no other row. On a processor oneDNN lays the weights
    out once, as its product likes them best: the same sums in half the time of `_int_mm`. fbgemm's dynamic product
    is faster still but scales activations per batch, and the tensors that it needs are deprecated in torch.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` [outputs, inputs] in any float type."""
        super().__init__()
        whole, scale = quantise(weight)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self._laid_out = whole.device.type == "cpu" and torch._C._has_mkldnn
        if self._laid_out:
            whole = torch.ops.onednn.qlinear_prepack(whole, None)
            self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.register_buffer("weight", whole, persistent=False)
        self.register_buffer("scale", scale[:, 0], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        whole, step = quantise(x)
        found = (self._product(whole) if self._laid_out else self._plain(whole)).mul_(step)
        return found if self.bias is None else found.add_(self.bias)

    def _product(self, whole: Tensor) -> Tensor:
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, 0, self.weight, self.scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return found

    def _plain(self, whole: Tensor) -> Tensor:
        return torch._int_mm(whole, self.weight.T).float().mul_(self.scale)


class Int8Embedding(nn.Module):
    """Rows of a table in int8, one scale each, read as fp32."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        whole, scale = quantise(weight)
        self.register_buffer("weight", whole, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float().mul_(self.scale[ids])


class Rotary(nn.Module):
    """cos and sin of all positions, in the half-split layout (Su et al., 2021)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, size: int, positions: int, theta: float, scaling: Scaling = UNSCALED) -> None:
        super().__init__()
        speeds = torch.tensor(frequencies(scaling, theta, size), dtype=torch.float64, device="cpu")
        angles = torch.arange(positions, dtype=torch.float64, device="cpu")[:, None] * speeds
        self.register_buffer("cos", (angles.cos() * scaling.attention).float(), persistent=False)
        self.register_buffer("sin", (angles.sin() * scaling.attention).float(), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and signed sin [tokens, 1, size], to be used by every layer of a step."""
        cos, sin = self.cos[positions], self.sin[positions]
        return torch.cat([cos, cos], -1).unsqueeze(1), torch.cat([-sin, sin], -1).unsqueeze(1)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x [tokens, heads, head_dim]; dimensions beyond the tables' are left as they are."""
    cos, sin = turn
    size = cos.shape[-1]
    if size < x.shape[-1]:
        return torch.cat([rotate(x[..., :size], turn), x[..., size:]], dim=-1)
    return (x * cos + x.roll(size // 2, -1) * sin).to(x.dtype)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [rows, columns] and the scale of each row, fp32 [rows, 1]."""
    weight = weight.float()
    scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
    return (weight / scale).round().to(torch.int8), scale
