"""Attention by kernels, which read the cache through its tables: a step's rows, and the work to be done for them, as
kernels want it. Worked out once, for all layers. Needs Triton."""

from typing import NamedTuple

import numpy as np
import torch
import triton
from torch import Tensor

from local_backend.cache import Cache, scales_of
from local_backend.devices import send
from local_backend.kernels.attention import Rows, Tiles, Work, attend
from local_backend.layers import Heads
from local_backend.types import Piece


class Share(NamedTuple):
    """Rows of a step that are cut alike: which they are, and by window what is to be done for them."""

    at: slice
    rows: Rows
    works: dict[int, Work]


class Paged:
    def __init__(self, cache: Cache, slots: Tensor, shares: list[Share]) -> None:
        """`slots` [tokens]: where each one's keys and values go; below 0: nowhere."""
        config = cache.config
        self._cache, self._slots, self._shares = cache, slots, shares
        self._scale = config.attention_scale or config.head_dim**-0.5

    def attend(self, layer: int, heads: Heads) -> Tensor:
        """Store the new keys and values, then answer the queries: [tokens, heads, head_dim]."""
        keys, values = self._cache.layer(layer)
        window, softcap = self._cache.config.window(layer), self._cache.config.attention_softcap
        scales = scales_of(keys, values)
        q = heads.store(keys, values, self._slots)
        out = torch.empty_like(q)
        for at, rows, works in self._shares:
            work = works[window]
            attend(q[at], keys.rows, values.rows, out[at], rows, work, self._scale, softcap, scales)
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
        rows = rows_of([piece.sequence.table for piece in share], sizes, lengths, cache.device)
        tiles = tiles_for(group, config.head_dim, are_few, len(share))
        works = {
            window: work_of(rows, sizes, lengths, window, group, tiles) for window in {0, *config.windows}
        }
        shares.append(Share(slice(first, first + sum(sizes)), rows, works))
        first += sum(sizes)
    return Paged(cache, slots, shares)


def of_decodes(cache: Cache, tables: Tensor, lengths: Tensor, slots: Tensor, most: int) -> Paged:
    """One query a row, all that is to be known of it on the device: `tables` int32 [rows, blocks], `lengths` int32
    [rows], 0 for padding, `slots` [rows]; `most`: splits of a row at most."""
    config, tiles = cache.config, split_tiles(cache, len(lengths))
    rows = Rows(tables, lengths, lengths, lengths)
    works = {window: work_of_decodes(most, window, tiles) for window in {0, *config.windows}}
    return Paged(cache, slots, [Share(slice(0, len(lengths)), rows, works)])


def of_prompt(cache: Cache, table: Tensor, starts: Tensor, length: Tensor, slots: Tensor) -> Paged:
    """One piece of a prompt, all that is to be known of it on the device: its `table` int32 [1, blocks], `starts` int32
    [2] where its queries begin and end, `length` int32 [1] of its keys; `slots` [tokens], more than it has queries."""
    config, tokens = cache.config, len(slots)
    group, rows = config.heads // config.kv_heads, Rows(table, starts, length, starts)
    tiles = tiles_for(group, config.head_dim, False, 1)
    works = {
        window: work_of(rows, [tokens], [tokens], window, group, tiles) for window in {0, *config.windows}
    }
    return Paged(cache, slots, [Share(slice(0, tokens), rows, works)])


def split_tiles(cache: Cache, rows: int) -> Tiles:
    """How so many decodes are cut."""
    config = cache.config
    return tiles_for(config.heads // config.kv_heads, config.head_dim, not cache.steady, rows)


def tiles_for(group: int, head_dim: int, few: bool, rows: int) -> Tiles:
    """As measured on an H200 with heads of 128; for larger ones, and so that 100 KB of shared memory hold them,
    estimates. `group`: query heads of a kv head; `few`: queries of each of the `rows`, whose keys are split: the fewer
    rows, the shorter, for there to be work for the whole GPU."""
    least = max(16, triton.next_power_of_2(group))
    if not few:
        return Tiles(max(least, 128 if head_dim <= 128 else 64), 64 if head_dim <= 128 else 32, 0, 4)
    if rows <= 4:
        return Tiles(least, 128, 128, 4, 1) if head_dim <= 128 else Tiles(least, 32, 128, 4)
    return Tiles(least, 64 if head_dim <= 128 else 32, 256 if rows < 128 else 512, 4)


def rows_of(tables: list[list[int]], sizes: list[int], lengths: list[int], device: torch.device) -> Rows:
    longest = max(map(len, tables))
    padded = [table + [0] * (longest - len(table)) for table in tables]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return Rows(*(send(np.asarray(one, np.int32), device) for one in (padded, starts, lengths, owners)))


def work_of(
    rows: Rows,
    sizes: list[int],
    lengths: list[int],
    window: int,
    group: int,
    tiles: Tiles,
) -> Work:
    """What is to be computed for rows of these sizes and lengths, none of it for nothing."""
    asked, ends = np.array(sizes), np.array(lengths)
    queries = tiles.lines // group
    across = -(-asked // queries)
    begin = np.maximum(0, ends - asked - window + 1) if window else np.zeros_like(ends)
    first = begin // tiles.split if tiles.split else np.zeros_like(ends)
    splits = -(-ends // tiles.split) - first if tiles.split else np.ones_like(ends)
    row = np.repeat(np.arange(len(asked)), across * splits)
    number = np.arange(len(row)) - np.repeat(np.cumsum(across * splits) - across * splits, across * splits)
    tile = across[row] - 1 - number // splits[row]  # the last has most keys to see, and begins first
    items = np.stack([row, tile * queries, first[row] + number % splits[row]], 1).astype(np.int32)
    return Work(tiles, window, send(items, rows.tables.device), int(splits.max()))


def work_of_decodes(most: int, window: int, tiles: Tiles) -> Work:
    """The same for rows of one query each, where only the device knows how long they are: `most` splits of a row at
    most, what is more than it has being nothing to do."""
    if not tiles.split:
        most = 1
    elif window:
        most = min(most, window // tiles.split + 2)
    return Work(tiles, window, None, most)
