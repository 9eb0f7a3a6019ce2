"""Attention by kernels, which read the cache through its tables: a step's rows, and the work to be done for them, as
kernels want it. Worked out once, for all layers. Needs Triton."""

from typing import NamedTuple

import torch
from torch import Tensor

from local_backend.cache import Cache
from local_backend.kernels import attention
from local_backend.layers import Heads
from local_backend.types import Piece


class Share(NamedTuple):
    """Rows of a step that are cut alike: which they are, and by window what is to be done for them."""

    at: slice
    rows: attention.Rows
    works: dict[int, attention.Work]


class Paged:
    def __init__(self, cache: Cache, slots: Tensor, shares: list[Share]) -> None:
        """`slots` [tokens]: where each one's keys and values go; below 0: nowhere."""
        config = cache.config
        self._cache, self._slots, self._shares = cache, slots, shares
        self._scale = config.attention_scale or config.head_dim**-0.5

    def attend(self, layer: int, heads: Heads) -> Tensor:
        """Store the new keys and values, then answer the queries: [tokens, heads, head_dim]."""
        keys, values = self._cache.layer(layer)
        config = self._cache.config
        q = heads.store(keys, values, self._slots)
        out = torch.empty_like(q)
        for at, rows, works in self._shares:
            work = works[config.window(layer)]
            attention.attend(q[at], keys, values, out[at], rows, work, self._scale, config.attention_softcap)
        return out


def of_pieces(pieces: list[Piece], few: int, cache: Cache, slots: Tensor) -> Paged:
    """The first `few` have few queries each; `slots` in their order."""
    config, shares, first = cache.config, list[Share](), 0
    group = config.heads // config.kv_heads
    for share, are_few in ((pieces[:few], True), (pieces[few:], False)):
        if not share:
            continue
        sizes = [piece.size for piece in share]
        lengths = [piece.start + piece.size for piece in share]
        rows = attention.rows_of([piece.sequence.table for piece in share], sizes, lengths, cache.device)
        tiles = attention.tiles_for(group, config.head_dim, are_few)
        works = {
            window: attention.work_of(rows, sizes, lengths, window, group, tiles)
            for window in {0, *config.windows}
        }
        shares.append(Share(slice(first, first + sum(sizes)), rows, works))
        first += sum(sizes)
    return Paged(cache, slots, shares)


def of_decodes(cache: Cache, tables: Tensor, lengths: Tensor, slots: Tensor, most: int) -> Paged:
    """One query a row, all that is to be known of it on the device: `tables` int32 [rows, blocks], `lengths` int32
    [rows], 0 for padding, `slots` [rows]; `most`: splits of a row at most."""
    config, count = cache.config, len(lengths)
    starts = torch.arange(count + 1, dtype=torch.int32, device=cache.device)
    rows = attention.Rows(tables, starts, lengths, starts[:-1].masked_fill(lengths == 0, -1))
    tiles = split_tiles(cache)
    works = {window: attention.work_of_decodes(rows, most, window, tiles) for window in {0, *config.windows}}
    return Paged(cache, slots, [Share(slice(0, count), rows, works)])


def split_tiles(cache: Cache) -> attention.Tiles:
    """How decodes are cut."""
    config = cache.config
    return attention.tiles_for(config.heads // config.kv_heads, config.head_dim, few=True)
