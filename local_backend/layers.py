"""What a model is built of: norms, linear layers of weights in fp32, bf16, fp16 or int8, and rotary tables. Where
kernels are ready they take the small steps between matrix products, several at once (and need Triton, which is
imported only then)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from local_backend.cache import Kept, scales_of
from local_backend.fp8 import Fp8
from local_backend.int4 import Int4ByKernel
from local_backend.kernels import ready
from local_backend.rope import UNSCALED, Scaling, frequencies

SLICE = 4096  # rows of a matrix that are quantised at once
FEW = 32  # rows up to which a kernel of ours reads the weights faster than torch's product does


class Norm(nn.Module):
    """Root-mean-square norm over the last dimension (Zhang and Sennrich, 2019), in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if ready(x.device):
            from local_backend.kernels import fused

            rows = x.reshape(-1, x.shape[-1])
            return fused.add_norm(rows, None, 1.0, self.weight, self.eps, x.dtype).view(x.shape)
        return functional.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


def add_norm(
    x: Tensor, more: Tensor | None, scale: float, norm: nn.Module, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """What flows past the blocks, x [tokens, size] + scale * `more` (the answer of the last block), and its norm for
    the next one: by kernels in `dtype`, where there is one, else as x is. x is used up."""
    if dtype is not None and isinstance(norm, Norm):
        from local_backend.kernels import fused

        return x, fused.add_norm(x, more, scale, norm.weight, norm.eps, dtype)
    if more is not None:
        x = x + (more if scale == 1 else more * scale)
    found: Tensor = norm(x)
    return x, found if dtype is None else found.to(dtype)


def gated_product(layer: nn.Module, x: Tensor, gelu: bool) -> Tensor:
    """`gated` of what a layer makes of x."""
    if len(x) == 1 and isinstance(layer, Dense | Fp8) and layer.takes(1):
        from local_backend.kernels import few

        scale = layer.scale if isinstance(layer, Fp8) else None
        out, gate = x.new_empty(1, len(layer.weight) // 2), few.Gate.GELU if gelu else few.Gate.SILU
        return few.single(x, layer.weight, scale, layer.bias, out, gate)
    return gated(layer(x), gelu)


def gated(rows: Tensor, gelu: bool) -> Tensor:
    """act(gate) * up of rows [tokens, 2 * size] that hold both; GELU in its tanh form, else SiLU."""
    if ready(rows.device):
        from local_backend.kernels import fused

        return fused.gated(rows, gelu)
    gate, up = rows.chunk(2, dim=-1)
    gate = functional.gelu(gate, approximate="tanh") if gelu else functional.silu(gate)
    return gate * up


class Table(nn.Embedding):
    """A vector for each id."""

    def reset_parameters(self) -> None:
        """What lies nowhere yet is not filled: torch would import its compiler for that, which takes a second."""
        if self.weight.device.type != "meta":
            super().reset_parameters()


class Dense(nn.Linear):
    """A linear layer whose weights may be of fewer bits than what flows through it. `steady`: its sums are taken in one
    order however many rows there are, by a kernel."""

    steady = False

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """In x's type, or into `out`."""
        weight, bias = self.weight, self.bias
        rows = x.to(weight.dtype)
        if self.steady:
            from local_backend.kernels import product

            found = product.product(rows, weight, bias)
        elif self.takes(len(x)):
            from local_backend.kernels import few

            return few.product(rows, weight, bias, x.new_empty(len(x), len(weight)) if out is None else out)
        elif out is not None and out.device.type == "cuda" and bias is None:
            return torch.mm(rows, weight.T, out_dtype=out.dtype, out=out)
        else:
            found = functional.linear(rows, weight, bias)
        return found.to(x.dtype) if out is None else out.copy_(found)

    def takes(self, rows: int) -> bool:
        """Whether a kernel of ours multiplies so many rows faster than torch does."""
        halves = self.weight.dtype in (torch.bfloat16, torch.float16)
        return rows <= FEW and halves and not self.steady and ready(self.weight.device)


def hold_steady(model: nn.Module) -> None:
    """Rows depend on no other rows any more, down to the last bit. Sums of int8 never do."""
    for module in model.modules():
        if isinstance(module, Dense | Fp8 | Int4ByKernel):
            module.steady = True


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
        whole, scale = _by_slices(weight)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
        self._laid_out = whole.device.type == "cpu" and torch._C._has_mkldnn
        if not self._laid_out:
            whole = functional.pad(whole, (0, 0, 0, -len(whole) % 8))
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
        """As the product on a GPU wants it: more than 16 rows, and outputs by eights."""
        rows, outputs = len(whole), len(self.scale)
        whole = functional.pad(whole, (0, 0, 0, max(0, 17 - rows)))
        return torch._int_mm(whole, self.weight.T)[:rows, :outputs].float().mul_(self.scale)


class Int8Embedding(nn.Module):
    """Rows of a table in int8, one scale each, read as fp32."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        whole, scale = _by_slices(weight)
        self.register_buffer("weight", whole, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float().mul_(self.scale[ids])


class Rotary(nn.Module):
    """cos and signed sin of all positions, in the half-split layout (Su et al., 2021): [positions, 1, size]."""

    cos: Tensor
    sin: Tensor

    def __init__(self, size: int, positions: int, theta: float, scaling: Scaling = UNSCALED) -> None:
        super().__init__()
        speeds = torch.tensor(frequencies(scaling, theta, size), dtype=torch.float64, device="cpu")
        angles = torch.arange(positions, dtype=torch.float64, device="cpu")[:, None] * speeds
        cos, sin = ((found * scaling.attention).float() for found in (angles.cos(), angles.sin()))
        self.register_buffer("cos", torch.cat([cos, cos], -1).unsqueeze(1), persistent=False)
        self.register_buffer("sin", torch.cat([-sin, sin], -1).unsqueeze(1), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and signed sin [tokens, 1, size], to be used by every layer of a step."""
        return self.cos[positions], self.sin[positions]


class Heads(NamedTuple):
    """What a layer's projection gave, and what is still to be done to it before queries meet keys.

    `rows` [tokens, heads + 2 * kv, head_dim]: queries, keys, values. `norms` of queries and keys, over each head,
    or over all at once where `whole`; `turn` as `Rotary` gives it."""

    rows: Tensor
    heads: int
    kv: int
    norms: tuple[Norm, Norm] | None
    whole: bool
    turn: tuple[Tensor, Tensor] | None

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """q [tokens, heads, head_dim], k and v [tokens, kv, head_dim], ready to meet."""
        sizes = (self.heads, self.kv)
        qk, v = self.rows.split_with_sizes((self.heads + self.kv, self.kv), 1)
        if self.norms is not None:
            q, k = qk.split_with_sizes(sizes, 1)
            qk = torch.cat([self._norm(self.norms[0], q), self._norm(self.norms[1], k)], 1)
        if self.turn is not None:
            qk = rotate(qk, self.turn)  # both at once: half the launches
        q, k = qk.split_with_sizes(sizes, 1)
        return q, k, v

    def store(self, keys: Kept, values: Kept, slots: Tensor) -> Tensor:
        """By kernels: store what is ready in a layer's cache, one of `slots` [tokens] each; give the queries."""
        from local_backend.kernels import fused

        norms, rows = None, self.rows
        if self.norms is not None and self.whole:
            flat, split = rows.flatten(1), self.heads * rows.shape[2]
            q_norm, k_norm = self.norms
            fused.norm_in_place(flat[:, :split], q_norm.weight, q_norm.eps)
            fused.norm_in_place(flat[:, split : split + self.kv * rows.shape[2]], k_norm.weight, k_norm.eps)
        elif self.norms is not None:
            q_norm, k_norm = self.norms
            norms = q_norm.weight, k_norm.weight, q_norm.eps
        scales = scales_of(keys, values)
        return fused.turn_and_store(rows, self.heads, norms, self.turn, keys.rows, values.rows, slots, scales)

    def _norm(self, norm: Norm, x: Tensor) -> Tensor:
        found: Tensor = norm(x.flatten(1)).view(x.shape) if self.whole else norm(x)
        return found


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn x [tokens, heads, head_dim]; dimensions beyond the tables' are left as they are."""
    cos, sin = turn
    size = cos.shape[-1]
    if size < x.shape[-1]:
        return torch.cat([rotate(x[..., :size], turn), x[..., size:]], dim=-1)
    return (x * cos + x.roll(size // 2, -1) * sin).to(x.dtype)


def _by_slices(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a matrix that may be large: on a small machine its copies in fp32 would not fit beside it."""
    whole = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), 1, device=weight.device)
    for at in range(0, len(weight), SLICE):
        whole[at : at + SLICE], scale[at : at + SLICE] = quantise(weight[at : at + SLICE])
    return whole, scale


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [rows, columns] and the scale of each row, fp32 [rows, 1]."""
    weight = weight.float()
    scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
    return (weight / scale).round().to(torch.int8), scale
