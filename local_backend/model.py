"""One decoder for all families, driven by its config. How queries meet keys is the caller's: paged when serving,
plain when training."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from local_backend.config import ModelConfig
from local_backend.kernels import ready
from local_backend.layers import Dense, Heads, Norm, Rotary, Table, add_norm, gated_product

# (layer, its queries, keys and values) -> [tokens, heads, head_dim]
Attend = Callable[[int, Heads], Tensor]
Turn = tuple[Tensor, Tensor]
# Adds up, in place, what all ranks of a model that is dealt out have of one answer.
Join = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, number: int, join: Join | None) -> None:
        super().__init__()
        self._config, self._number, self._join = config, number, join
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.qkv = Dense(config.hidden_size, queries + 2 * keys, bias=config.qkv_bias)
        self.out = Dense(queries, config.hidden_size, bias=config.out_bias)
        whole = config.family.qk_norm == "all"  # over all heads at once
        self._normed = (queries, keys) if whole else (config.head_dim, config.head_dim)
        if config.family.qk_norm:
            self.q_norm = Norm(self._normed[0], config.rms_eps)
            self.k_norm = Norm(self._normed[1], config.rms_eps)

    def forward(self, x: Tensor, turn: Turn | None, attend: Attend) -> Tensor:
        config = self._config
        rows = self.qkv(x).view(-1, config.heads + 2 * config.kv_heads, config.head_dim)
        norms = (self.q_norm, self.k_norm) if config.family.qk_norm else None
        heads = Heads(rows, config.heads, config.kv_heads, norms, config.family.qk_norm == "all", turn)
        found: Tensor = self.out(attend(self._number, heads).reshape(x.shape[0], -1))
        return found if self._join is None else self._join(found)


class Mlp(nn.Module):
    def __init__(self, config: ModelConfig, join: Join | None) -> None:
        super().__init__()
        self._join = join
        self.gate_up = Dense(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.down = Dense(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self._gelu = config.activation == "gelu_tanh"

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(gated_product(self.gate_up, x, self._gelu))
        return found if self._join is None else self._join(found)


class Layer(nn.Module):
    """Norms stand before a block, after it, or on both sides; the ones that a family lacks do nothing."""

    def __init__(self, config: ModelConfig, number: int, join: Join | None) -> None:
        super().__init__()
        before = config.family.norms != "after"
        after = config.family.norms != "before"

        def norm(there: bool) -> nn.Module:
            return Norm(config.hidden_size, config.rms_eps) if there else nn.Identity()

        self.input_norm, self.mlp_norm = norm(before), norm(before)
        self.attention_after, self.mlp_after = norm(after), norm(after)
        self.attention, self.mlp = Attention(config, number, join), Mlp(config, join)
        self._scale = config.residual_scale

    def forward(
        self, x: Tensor, more: Tensor | None, turn: Turn | None, attend: Attend, dtype: torch.dtype | None
    ) -> tuple[Tensor, Tensor]:
        """What flows past the blocks, and what the last one adds to it: before and after this layer. `dtype`: in what
        kernels compute, where they are ready."""
        x, found = add_norm(x, more, self._scale, self.input_norm, dtype)
        more = self.attention_after(self.attention(found, turn, attend))
        x, found = add_norm(x, more, self._scale, self.mlp_norm, dtype)
        return x, self.mlp_after(self.mlp(found))


class Decoder(nn.Module):
    """Token ids and positions [tokens] -> hidden states fp32 [tokens, hidden_size]; `logits` for the rows that
    need them. Weights may be of fewer bits; what flows between the layers is fp32, and what kernels hand on within a
    layer has the weights' type. Of a model that is dealt out `config` is one rank's share."""

    def __init__(self, config: ModelConfig, join: Join | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed = Table(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, number, join) for number in range(config.layers))
        self.norm = Norm(config.hidden_size, config.rms_eps)
        self.head = Dense(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight
        size = config.rotary_dim or config.head_dim
        self.rotary = Rotary(size, config.max_positions, config.rope_theta, config.rope)
        if config.window_theta:
            self.window_rotary = Rotary(size, config.max_positions, config.window_theta)

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        config = self.config
        x = self.embed(ids)
        dtype = x.dtype if ready(x.device) else None
        x = x.float()
        if config.embedding_scale != 1:
            x = x * config.embedding_scale
        wide = self.rotary(positions)
        narrow = self.window_rotary(positions) if config.window_theta else wide
        more: Tensor | None = None
        for number, layer in enumerate(self.layers):
            turn = narrow if config.window(number) else wide
            x, more = layer(x, more, None if number in config.unrotated else turn, attend, dtype)
        return add_norm(x, more, config.residual_scale, self.norm, dtype and torch.float32)[1]

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """fp32 [rows, vocab_size], into `out` where that is given."""
        config, head = self.config, cast(nn.Module, self.head)  # of fewer bits it is no Dense
        if out is not None and isinstance(head, Dense):
            found: Tensor = head(hidden, out)
        else:
            found = head(hidden).float()
            found = found if out is None else out.copy_(found)
        if config.logit_divisor != 1:
            found.div_(config.logit_divisor)
        if config.logit_softcap:
            found.div_(config.logit_softcap).tanh_().mul_(config.logit_softcap)
        return found
