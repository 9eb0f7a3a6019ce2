"""A step of one prompt, or of a piece of one, that nobody shares: as one CUDA graph, up to its logits. Launched one by
one its operations take a processor longer than a GPU needs for a thousand tokens.

A graph has a fixed number of tokens. Those past the prompt's end are padding: they have no key, nobody reads what is
computed of them, and attention has no work for tiles that are all padding."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from local_backend import paged
from local_backend.cache import Cache
from local_backend.capture import Act, captured
from local_backend.devices import held, send
from local_backend.flight import Flight
from local_backend.model import Decoder
from local_backend.types import Plan

# Tokens up to which decoding's graphs are as good, a row for each; and those from which on a GPU is the slower one.
LEAST, MOST = 16, 2048
_ID, _POSITION, _PLACE = range(3)


class Prompts:
    def __init__(self, model: Decoder, cache: Cache, step_tokens: int, max_len: int, pool: Any) -> None:
        """`pool`: the graphs' memory; None where there is nothing to capture."""
        self._model, self._cache, self._pool, device = model, cache, pool, cache.device
        self._paddings = paddings(min(MOST, step_tokens, max_len))
        # Where its queries begin and end, its keys, and which row's logits are wanted; then its blocks.
        self._ints = torch.zeros(4 + -(-max_len // cache.block_size), dtype=torch.int32, device=device)
        self._longs = torch.zeros(3, self._paddings[-1], dtype=torch.int64, device=device)
        self._longs[_PLACE] = -1
        self._logits = torch.empty(1, model.config.vocab_size, device=device)
        self._ways: dict[int, paged.Paged] = {}  # which graphs read
        self._made: dict[int, Act] = {}

    def fit(self, plan: Plan) -> bool:
        """Whether a step is one of these."""
        drafts = any(draw.draft is not None for draw in plan.draws)
        return len(plan.pieces) == 1 and LEAST < plan.tokens <= self._paddings[-1] and not drafts

    def prepared(self, flight: Flight, before: Flight | None) -> Act:
        """What is to be done for a step. Its sequence is read now, not then."""
        plan, device = flight.plan, self._cache.device
        ((sequence, start, size),) = plan.pieces
        tokens = self._paddings[bisect_left(self._paddings, size)]
        table, at, block = np.array(sequence.table), np.arange(start, start + size), self._cache.block_size
        longs = np.zeros((3, tokens), np.int64)
        longs[:, :size] = sequence.tokens[start : start + size], at, table[at // block] * block + at % block
        longs[_PLACE, size:] = -1
        ints = np.concatenate([[0, size, start + size, size - 1], table]).astype(np.int32)

        def act() -> None:
            if plan.copies:
                self._cache.copy(plan.copies)
            self._longs[:, :tokens].copy_(held(longs, device), non_blocking=True)
            self._ints[: len(ints)].copy_(held(ints, device), non_blocking=True)
            self._replay(tokens)
            if plan.draws:  # several where choices share the prompt
                flight.logits = self._logits[send([0] * len(plan.draws), device)]

        return act

    def warm(self, tell: Callable[[str], None]) -> None:
        """Capture all of them now, the largest first, so that the smaller fit the memory it took."""
        for number, tokens in enumerate(reversed(self._paddings), 1):
            self._made[tokens] = self._captured(tokens)
            tell(f"{number} of {len(self._paddings)} lengths of prompts are captured")

    def _replay(self, tokens: int) -> None:
        if tokens not in self._made:
            self._made[tokens] = self._captured(tokens)
        self._made[tokens]()

    def _captured(self, tokens: int) -> Act:
        ids, positions, places = self._longs[:, :tokens]
        starts, lengths, last = self._ints[:2], self._ints[2:3], self._ints[3:4]
        way = paged.of_prompt(self._cache, self._ints[4:].view(1, -1), starts, lengths, places)
        self._ways[tokens] = way

        def act() -> None:
            hidden = self._model(ids, positions, way.attend)
            self._model.logits(hidden.index_select(0, last), self._logits)

        return captured(act, self._pool)


def paddings(most: int) -> list[int]:
    """Tokens that a graph may have: a quarter of a long prompt is computed for nothing at most."""
    sizes = (*range(64, 512, 64), *range(512, 1024, 128), *range(1024, 2048, 256))
    return [one for one in sizes if one < most] + [most]
