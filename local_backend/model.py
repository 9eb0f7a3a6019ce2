"""One Llama-type decoder. How queries meet keys is the caller's: paged when serving, plain when training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from local_backend.config import ModelConfig

# (layer, q [tokens, heads, head_dim], k and v [tokens, kv_heads, head_dim]) -> [tokens, heads, head_dim]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Norm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, 2019), in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x.float(), self.weight.shape, self.weight.float(), self._eps).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self._config, self._number = config, number
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.input_norm = Norm(config.hidden_size, config.rms_eps)
        self.qkv = nn.Linear(config.hidden_size, queries + 2 * keys, bias=False)
        self.out = nn.Linear(queries, config.hidden_size, bias=False)
        self.mlp_norm = Norm(config.hidden_size, config.rms_eps)
        self.gate_up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        config = self._config
        heads, kv = config.heads, config.kv_heads
        rows = self.qkv(self.input_norm(x)).view(-1, heads + 2 * kv, config.head_dim)
        q, k, v = rows.split([heads, kv, kv], dim=1)
        mixed = attend(self._number, rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.out(mixed.reshape(x.shape[0], -1))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        found: Tensor = x + self.down(functional.silu(gate) * up)
        return found


class Decoder(nn.Module):
    """Token ids and positions [tokens] -> hidden states [tokens, hidden_size]; `logits` for the rows that
    need them."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.layers))
        self.norm = Norm(config.hidden_size, config.rms_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight
        cos, sin = rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        x = self.embed(ids)
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        found: Tensor = self.norm(x)
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 [rows, vocab_size]."""
        found: Tensor = self.head(hidden)
        return found.float()


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin [max_positions, head_dim] of rotary positions in the half-split layout (Su et al., 2021)."""
    half = config.head_dim // 2
    frequencies = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(config.max_positions, dtype=torch.float64)[:, None] * frequencies
    doubled = torch.cat([angles, angles], dim=-1)
    return doubled.cos().float(), doubled.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)
