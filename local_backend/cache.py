"""Keys and values of all sequences, in blocks: as the weights are, or in fp8 with a scale for each head of a token."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from local_backend import fp8
from local_backend.config import ModelConfig
from local_backend.devices import send

# Bytes of one sequence's keys in one layer up to which decodes are gathered together: an estimate.
SHORT = 1 << 18
_CACHED = {torch.bfloat16: torch.bfloat16, torch.float16: torch.float16}


class Kept(NamedTuple):
    """Keys, or values, of one layer: `rows` [blocks, block_size, kv_heads, head_dim]; of fp8 their `scales`, fp32
    [blocks, block_size, kv_heads]."""

    rows: Tensor
    scales: Tensor | None = None

    def put(self, slots: Tensor, x: Tensor) -> None:
        """x [tokens, kv_heads, head_dim], one of `slots` [tokens] each."""
        if self.scales is None:
            self.rows.flatten(0, 1).index_copy_(0, slots, x.to(self.rows.dtype))
            return
        rows, scales = fp8.by_rows(x.flatten(0, 1))
        _bits(self.rows).flatten(0, 1).index_copy_(0, slots, _bits(rows).view(x.shape))
        self.scales.flatten(0, 1).index_copy_(0, slots, scales.view(x.shape[:-1]))

    def run(self, at: slice) -> Tensor:
        """Of neighbouring slots: [keys, kv_heads, head_dim]."""
        rows = self.rows.flatten(0, 1)[at]
        return rows if self.scales is None else _widened(rows, self.scales.flatten(0, 1)[at])

    def of(self, blocks: Tensor) -> Tensor:
        """Of blocks by their ids [count]: [count, block_size, kv_heads, head_dim]."""
        if self.scales is None:
            return self.rows.index_select(0, blocks)
        rows = _bits(self.rows).index_select(0, blocks).view(fp8.E4M3)
        return _widened(rows, self.scales.index_select(0, blocks))


def scales_of(keys: Kept, values: Kept) -> tuple[Tensor, Tensor] | None:
    """As kernels take them."""
    return None if keys.scales is None or values.scales is None else (keys.scales, values.scales)


class Cache:
    """[layers, 2, blocks, block_size, kv_heads, head_dim]. `steady`: kernels answer queries in one way, however
    many there are."""

    def __init__(
        self,
        config: ModelConfig,
        blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        steady: bool = False,
    ) -> None:
        self.config, self.block_size, self.device = config, block_size, torch.device(device)
        self.steady = steady
        shape = config.layers, 2, blocks, block_size, config.kv_heads, config.head_dim
        self._rows = torch.zeros(shape, dtype=dtype, device=device)
        self._scales = torch.zeros(shape[:-1], device=device) if dtype is fp8.E4M3 else None
        row = config.kv_heads * config.head_dim * dtype.itemsize
        self.short = SHORT // row  # tokens

    def layer(self, number: int) -> tuple[Kept, Kept]:
        """Its keys and values."""
        keys, values = self._rows[number]
        if self._scales is None:
            return Kept(keys), Kept(values)
        return Kept(keys, self._scales[number, 0]), Kept(values, self._scales[number, 1])

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """Whole blocks (from, to): a table that was shared is about to be written to."""
        source, target = send([one for pair in pairs for one in pair], self.device).view(-1, 2).T
        for all_blocks in (_bits(self._rows), self._scales):
            if all_blocks is not None:
                all_blocks[:, :, target] = all_blocks[:, :, source]


def cache_dtype(embed: nn.Module, asked: str = "auto") -> torch.dtype:
    """fp8 where it is asked for. Else as the weights are, of which `embed` are some; fp32 beside int8 ones, and beside
    fp8 ones what they are read as."""
    kind = embed.kind if isinstance(embed, fp8.Fp8Embedding) else embed.weight.dtype
    assert isinstance(kind, torch.dtype)
    return fp8.E4M3 if asked == "fp8" else _CACHED.get(kind, torch.float32)


def token_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """What the cache takes for one token of a sequence."""
    scales = config.layers * 2 * config.kv_heads * 4 if dtype is fp8.E4M3 else 0
    return config.kv_bytes(dtype.itemsize) + scales


def _bits(x: Tensor) -> Tensor:
    """torch indexes no fp8 on processors."""
    return x.view(torch.uint8) if x.dtype is fp8.E4M3 else x


def _widened(rows: Tensor, scales: Tensor) -> Tensor:
    return fp8.widen(rows, torch.float32) * scales[..., None]
