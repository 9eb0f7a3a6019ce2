"""Queries meet the paged keys and values.

What a step needs to know of its tables is worked out once, for all layers. Where kernels are ready they read the cache
through the tables. Elsewhere, on CPU, decodes with short contexts are gathered and padded together; long ones and
prompts go one by one, and a table whose blocks are one run of ids is read where it lies. Grouped queries are folded
into the query length, or the keys expanded without a copy: 6 to 11 times faster than `enable_gqa`.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from local_backend.cache import Cache, Kept
from local_backend.devices import send
from local_backend.kernels import ready
from local_backend.layers import Heads
from local_backend.types import Piece

# Queries of a piece up to which kernels split its keys: then there are too few tiles to fill a GPU. An estimate.
FEW = 16


class Look(NamedTuple):
    """Queries that are answered together: rows [first, last) of the step, one a sequence, or all of one.

    `keys`: a run of the cache's rows, or block ids ([blocks], or [sequences, blocks]) of which `cut` is seen;
    `mask`: what is added to their scores, where not all are seen; `causal`: as many keys as queries."""

    first: int
    last: int
    keys: slice | Tensor
    cut: slice | None = None
    mask: Tensor | None = None
    causal: bool = False


class Batch:
    """One step: `ids` and `positions` of its tokens; `ends`, the row at which each piece ends; `unknown`, (row,
    sequence id) of tokens whose draw is still on the way."""

    def __init__(self, pieces: list[Piece], cache: Cache) -> None:
        size, device = cache.block_size, cache.device
        first = [_goes_first(piece, cache) for piece in pieces]
        order = sorted(range(len(pieces)), key=lambda index: not first[index])
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        self.ends = [0] * len(pieces)
        self.unknown: list[tuple[int, int]] = []
        for index in order:
            sequence, start, count = pieces[index]
            ids += sequence.tokens[start : start + count]
            positions += range(start, start + count)
            table = sequence.table
            for place in range(start // size, (start + count - 1) // size + 1):
                first_slot, at = table[place] * size, place * size
                slots += range(first_slot + max(0, start - at), first_slot + min(size, start + count - at))
            self.ends[index] = len(ids) - 1
            if start >= sequence.known:
                self.unknown.append((len(ids) - 1, sequence.id))
        self.ids, self.positions = _sent(ids, device), _sent(positions, device)
        # Worked out now: tables change while the step is computed.
        self._way = _way([pieces[index] for index in order], sum(first), cache, _sent(slots, device))

    def attend(self, layer: int, heads: Heads) -> Tensor:
        """Store the new keys and values, then answer the queries: [tokens, heads, head_dim]."""
        return self._way.attend(layer, heads)


def _sent(values: list[int], device: torch.device) -> Tensor:
    """By way of numpy: torch takes 0.35 us for each number of a list."""
    return send(np.fromiter(values, np.int64, len(values)), device)


class Way(Protocol):
    """How a step's queries meet keys and values."""

    def attend(self, layer: int, heads: Heads) -> Tensor: ...


def _way(pieces: list[Piece], first: int, cache: Cache, slots: Tensor) -> Way:
    if not ready(cache.device):
        return Gathered(pieces, first, cache, slots)
    from local_backend import paged  # needs Triton

    return paged.of_pieces(pieces, first, cache, slots)


def _goes_first(piece: Piece, cache: Cache) -> bool:
    """Pieces that are answered together lie side by side. For kernels by its own size alone, so that a piece's sums are
    the same whoever shares the step; but how it is cut into pieces may depend on them."""
    if ready(cache.device):
        return piece.size <= FEW and not cache.steady
    return piece.size == 1 and piece.start < cache.short


class Gathered:
    """Without kernels: what is seen is gathered, or read where it lies."""

    def __init__(self, pieces: list[Piece], short: int, cache: Cache, slots: Tensor) -> None:
        """The first `short` are decodes with short contexts."""
        self._cache, self._slots, self._device = cache, slots, cache.device
        self._looks = self._look_at(pieces, short if short > 1 else 0)

    def attend(self, layer: int, heads: Heads) -> Tensor:
        keys, values = self._cache.layer(layer)
        q, k, v = heads.parts()
        keys.put(self._slots, k)
        values.put(self._slots, v)
        looks = self._looks[self._cache.config.window(layer)]
        if len(looks) == 1:
            return self._answer(looks[0], q, keys, values)
        out = torch.empty_like(q)
        for look in looks:
            out[look.first : look.last] = self._answer(look, q[look.first : look.last], keys, values)
        return out

    def _look_at(self, sorted_pieces: list[Piece], together: int) -> dict[int, list[Look]]:
        """By window."""
        longest = max(piece.start + piece.size for piece in sorted_pieces)
        wide = self._look(sorted_pieces, together, 0)
        return {
            window: wide if window == 0 or window >= longest else self._look(sorted_pieces, together, window)
            for window in {0, *self._cache.config.windows}
        }

    def _look(self, pieces: list[Piece], together: int, window: int) -> list[Look]:
        """What is seen through a window: of the first pieces together, of the others one by one."""
        looks, first = [], together
        if together:
            looks.append(_together(pieces[:together], self._cache.block_size, window, self._device))
        for piece in pieces[together:]:
            looks.append(_alone(piece, first, self._cache.block_size, window, self._device))
            first += piece.size
        return looks

    def _answer(self, look: Look, q: Tensor, keys: Kept, values: Kept) -> Tensor:
        """q [rows, heads, head_dim] of the look's rows."""
        rows, heads, size = q.shape
        k, v = _seen(look, keys), _seen(look, values)  # [sequences, keys, kv_heads, head_dim]
        kv = k.shape[2]
        q = q.to(k.dtype)
        if rows == len(k):
            q = q.view(rows, kv, heads // kv, size)
            mixed = self._mix(q, k.transpose(1, 2), v.transpose(1, 2), look)
            return mixed.reshape(rows, heads, size).float()
        shape = (kv, heads // kv, k.shape[1], size)
        k, v = (one[0].transpose(0, 1).unsqueeze(1).expand(shape) for one in (k, v))
        q = q.view(rows, kv, heads // kv, size).permute(1, 2, 0, 3)
        return self._mix(q, k, v, look).permute(2, 0, 1, 3).reshape(rows, heads, size).float()

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, look: Look) -> Tensor:
        config = self._cache.config
        scale = config.attention_scale or config.head_dim**-0.5
        if not config.attention_softcap:
            return functional.scaled_dot_product_attention(
                q, k, v, attn_mask=None if look.mask is None else look.mask.to(q.dtype),
                is_causal=look.causal, scale=scale,
            )  # fmt: skip
        scores = (q.float() @ k.float().transpose(-1, -2)).mul_(scale / config.attention_softcap)
        scores = scores.tanh_().mul_(config.attention_softcap)
        mask = look.mask
        if look.causal:
            queries, keys = (torch.arange(one.shape[-2], device=self._device) for one in (q, k))
            mask = _mask(queries, keys, 0)
        if mask is not None:
            scores += mask
        return scores.softmax(-1) @ v.float()


def _together(pieces: list[Piece], size: int, window: int, device: torch.device) -> Look:
    """One query of each sequence; their blocks side by side, padded with block 0."""
    starts = [_begin(piece, window) // size for piece in pieces]
    tables = [
        piece.sequence.table[start : piece.start // size + 1]
        for piece, start in zip(pieces, starts, strict=True)
    ]
    longest = max(map(len, tables))
    blocks = torch.tensor([table + [0] * (longest - len(table)) for table in tables], device=device)
    at = torch.tensor(
        [piece.start - start * size for piece, start in zip(pieces, starts, strict=True)], device=device
    )
    mask = _mask(at[:, None], torch.arange(longest * size, device=device), window)[:, None]
    return Look(0, len(pieces), blocks, mask=mask)


def _alone(piece: Piece, first: int, size: int, window: int, device: torch.device) -> Look:
    begin, end = _begin(piece, window), piece.start + piece.size
    start = begin // size
    table = piece.sequence.table[start : -(-end // size)]
    keys: slice | Tensor
    if table == list(range(table[0], table[0] + len(table))):
        at = table[0] * size - start * size
        keys, cut = slice(at + begin, at + end), None
    else:
        keys, cut = torch.tensor(table, device=device), slice(begin - start * size, end - start * size)
    mask, causal = None, begin == piece.start and piece.size > 1 and not (window and piece.size > window)
    if piece.size > 1 and not causal:
        queries, seen = (torch.arange(one, end, device=device) for one in (piece.start, begin))
        mask = _mask(queries, seen, window)
    return Look(first, first + piece.size, keys, cut, mask, causal)


def _begin(piece: Piece, window: int) -> int:
    """The first position that the piece's first token sees."""
    return max(0, piece.start - window + 1) if window else 0


def _mask(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """0 where a query sees a key, by their positions; else minus infinity."""
    hidden = keys > queries[..., None]
    if window:
        hidden |= keys <= queries[..., None] - window
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)


def _seen(look: Look, kept: Kept) -> Tensor:
    """Keys or values [sequences, keys, kv_heads, head_dim]."""
    if isinstance(look.keys, slice):
        return kept.run(look.keys).unsqueeze(0)
    found = kept.of(look.keys.flatten())
    if look.cut is None:
        return found.view(len(look.keys), -1, *found.shape[2:])
    return found.flatten(0, 1)[look.cut].unsqueeze(0)
