"""Queries meet the paged keys and values. The CPU way: decodes of a batch in one padded gather, prompts one by
one; grouped queries are folded into the query length (6 to 11 times faster than enable_gqa on CPU)."""

import torch
from torch import Tensor
from torch.nn import functional

from local_backend.types import Piece


class Cache:
    """Keys and values of all blocks: [layers, 2, blocks * block_size, kv_heads, head_dim]."""

    def __init__(self, layers: int, blocks: int, block_size: int, kv_heads: int, head_dim: int) -> None:
        self.block_size = block_size
        self.rows = torch.zeros(layers, 2, blocks * block_size, kv_heads, head_dim)


class Batch:
    """Index tensors of one step, built once and used by every layer."""

    def __init__(self, pieces: list[Piece], cache: Cache) -> None:
        self._cache = cache
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        self._prompts: list[tuple[slice, Tensor, Tensor]] = []
        decodes: list[tuple[int, list[int], int]] = []
        size = cache.block_size
        for piece in pieces:
            sequence, start, count = piece
            first = len(ids)
            ids += sequence.tokens[start : start + count]
            positions += range(start, start + count)
            slots += [sequence.table[at // size] * size + at % size for at in range(start, start + count)]
            if count == 1:
                decodes.append((first, sequence.table, start + 1))
            else:
                places = _places(sequence.table, start + count, size)
                mask = torch.arange(start + count) <= torch.arange(start, start + count)[:, None]
                self._prompts.append((slice(first, first + count), places, mask))
        self.ids, self.positions = torch.tensor(ids), torch.tensor(positions)
        self._slots = torch.tensor(slots)
        self._set_decodes(decodes)

    def _set_decodes(self, decodes: list[tuple[int, list[int], int]]) -> None:
        self._rows = torch.tensor([row for row, _, _ in decodes], dtype=torch.long)
        if not decodes:
            return
        size = self._cache.block_size
        lengths = torch.tensor([length for _, _, length in decodes])
        blocks = -(-int(lengths.max()) // size)
        padded = torch.tensor([table[:blocks] + [0] * (blocks - len(table)) for _, table, _ in decodes])
        self._places = (padded[:, :, None] * size + torch.arange(size)).flatten(1)
        # [decodes, 1, 1, longest]: which of the gathered keys a query may see
        self._seen = (torch.arange(blocks * size) < lengths[:, None])[:, None, None, :]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new keys and values, then answer the queries [tokens, heads, head_dim]."""
        keys, values = self._cache.rows[layer, 0], self._cache.rows[layer, 1]
        keys[self._slots], values[self._slots] = k.to(keys.dtype), v.to(values.dtype)
        out = torch.empty_like(q)
        if len(self._rows):
            out[self._rows] = _folded(q[self._rows], keys[self._places], values[self._places], self._seen)
        for rows, places, mask in self._prompts:
            out[rows] = _one_prompt(q[rows], keys[places], values[places], mask)
        return out


def _folded(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """One query per row: q [rows, heads, d], k and v [rows, keys, kv_heads, d]."""
    rows, heads, size = q.shape
    kv_heads = k.shape[2]
    queries = q.view(rows, kv_heads, heads // kv_heads, size)
    mixed = functional.scaled_dot_product_attention(
        queries, k.transpose(1, 2), v.transpose(1, 2), attn_mask=seen
    )
    return mixed.reshape(rows, heads, size)


def _one_prompt(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Queries of one sequence: q [count, heads, d], k and v [keys, kv_heads, d], mask [count, keys]."""
    count, heads, size = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    queries = q.view(count, kv_heads, group, size).permute(1, 2, 0, 3).reshape(kv_heads, group * count, size)
    mixed = functional.scaled_dot_product_attention(
        queries, k.transpose(0, 1), v.transpose(0, 1), attn_mask=mask.repeat(group, 1)
    )
    return mixed.view(kv_heads, group, count, size).permute(2, 0, 1, 3).reshape(count, heads, size)


def _places(table: list[int], length: int, size: int) -> Tensor:
    return (torch.tensor(table)[:, None] * size + torch.arange(size)).flatten()[:length]
