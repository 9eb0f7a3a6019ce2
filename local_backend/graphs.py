"""Steps of decoding, of drafts and of short prompts, each as one CUDA graph: products, attention, logits and draws are
launched at once. Their tables lie on the device from step to step; a step is told what has changed.

A graph has a fixed number of rows and of splits. Every token that is computed has a row, those of a prompt too: their
keys are stored before any of them is answered. Rows that nobody has are padding, which is neither read nor written.
Where there is no CUDA the same is computed without being captured: that is how it is tested."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from local_backend import paged
from local_backend.cache import Cache
from local_backend.capture import Act, captured
from local_backend.devices import held, send
from local_backend.flight import Flight
from local_backend.kernels import sampling
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.sampler import CHUNK, Drawn, key_of
from local_backend.seats import Seat, Seats, paddings
from local_backend.types import Plan, Sequence

# Rows times splits up to which a step is captured: past it what a program's launch costs is nothing beside its work,
# and what the splits find would take more memory than is left for it. An estimate.
LARGEST = 8192
# Tokens of prompts that a step may have. Launched one by one its operations take a processor 28 ms (Llama-3.1-8B,
# measured beside an H200), by a graph under one; but each row reads all keys before it, and a tile of many rows once.
SHORT = 64
# Tokens that a step may have where drafts are among them, however few sequences there may be.
TRIED = 256
_ID, _POSITION, _PLACE, _SOURCE, _KEY = range(5)
_TOP_K, _LENGTH = range(2)


class Asked(NamedTuple):
    """A token that is computed: whose, and at which place; who sits in its row; and whether it is still being drawn."""

    sequence: Sequence
    at: int
    seat: Seat
    unknown: bool


class Graphs:
    def __init__(self, model: Decoder, cache: Cache, config: EngineConfig, max_len: int, pool: Any) -> None:
        """`pool`: the graphs' memory; None where there is nothing to capture."""
        self._model, self._cache, device = model, cache, cache.device
        tried = min(TRIED, config.max_seqs * (1 + config.speculate))
        most, width = max(SHORT, config.max_seqs, tried), -(-max_len // cache.block_size)
        self._paddings, self._most, self._longest = paddings(most), most, max_len
        self._seats = Seats(most, width)
        self._tables = torch.zeros(most, width, dtype=torch.int32, device=device)
        # What was drawn lies before what is told, so that a row finds its token in one of both by one number.
        whole = torch.zeros(_told_bytes(most) + 8 * most, dtype=torch.uint8, device=device)
        self._told = whole[8 * most :]
        self._told.copy_(torch.from_numpy(_nobody(most)))
        self._longs, self._ints, self._floats = _parts(self._told, most)
        self._tokens = whole[: 16 * most].view(torch.int64)  # drawn, and told
        self._drawn = self._tokens[:most]
        self._logits = torch.empty(most, model.config.vocab_size, device=device)
        self._made: dict[tuple[int, int], Act] = {}
        self._pool = pool

    def fit(self, plan: Plan) -> bool:
        """Whether a step is one of these."""
        drafts = {draw.piece for draw in plan.draws if draw.draft is not None}
        sizes = [piece.size for piece in plan.pieces]
        prompts = sum(size for number, size in enumerate(sizes) if size > 1 and number not in drafts)
        if prompts > SHORT or sum(sizes) > self._most:
            return False
        rows, splits = self._shape(plan)
        return rows * splits <= LARGEST

    def prepared(self, flight: Flight, before: Flight | None) -> Act:
        """What is to be done for a step. Sequences are read now, not then."""
        plan, shape = flight.plan, self._shape(flight.plan)
        asked = _asked(plan)
        rows = self._seats.sit([one.seat for one in asked], shape[0])
        ends = list(accumulate(piece.size for piece in plan.pieces))
        seated = [rows[ends[draw.piece] - 1 - plan.behind(draw)] for draw in plan.draws]
        changes = [
            change
            for one, row in zip(asked, rows, strict=True)
            for change in self._seats.tell(row, one.sequence.table)
        ]
        waits = any(one.unknown for one in asked)
        told = self._columns(asked, rows, before.sources() if waits and before else {})
        self._tell_draws(told, plan, seated)
        plain = len(set(seated)) == len(seated) and not any(
            draw.sequence.sampling.special for draw in plan.draws
        )
        if plain:
            flight.rows = seated

        def act() -> None:
            if plan.copies:
                self._cache.copy(plan.copies)
            if changes:
                places, blocks = send(np.array(changes).T, self._cache.device)
                self._tables.view(-1).index_copy_(0, places, blocks.int())
            self._told.copy_(held(told, self._cache.device), non_blocking=True)
            if waits:
                self._take(before)
            self._replay(shape)
            if plain:
                # A processor's would not be copied on its way home.
                drawn = self._drawn if self._pool else self._drawn.clone()
                flight.land(Drawn(drawn, [], None))
            elif seated:
                flight.logits = self._logits[send(seated, self._cache.device)]

        return act

    def warm(self, tell: Callable[[str], None]) -> None:
        """Capture all of them now, the largest first, so that the smaller fit the memory it took."""
        shapes = list(self._shapes())
        for number, shape in enumerate(shapes, 1):
            self._made[shape] = self._captured(shape)
            tell(f"{number} of {len(shapes)} steps are captured")

    def _take(self, before: Flight | None) -> None:
        """What the step ahead has drawn lies where rows look for it."""
        assert before is not None
        assert before.drawn is not None
        if before.drawn.ids.data_ptr() != self._drawn.data_ptr():
            self._drawn[: len(before.drawn.ids)].copy_(before.drawn.ids)

    def _shape(self, plan: Plan) -> tuple[int, int]:
        """Rows and splits of the smallest graph that holds a step."""
        rows = self._paddings[bisect_left(self._paddings, sum(piece.size for piece in plan.pieces))]
        longest = max(piece.start + piece.size for piece in plan.pieces)
        return rows, self._splits(rows, longest)

    def _shapes(self) -> Iterator[tuple[int, int]]:
        for rows in reversed(self._paddings):
            splits = min(self._splits(rows, self._longest), 1 << (LARGEST // rows).bit_length() - 1)
            while splits:
                yield rows, splits
                splits //= 2

    def _splits(self, rows: int, length: int) -> int:
        """A power of two that is enough for so many keys."""
        split = paged.split_tiles(self._cache, rows).split
        return 1 << (-(-length // split) - 1).bit_length() if split else 1

    def _columns(self, asked: list[Asked], rows: list[int], sources: dict[int, int]) -> npt.NDArray[np.uint8]:
        """Of each row: its token, or where that is being drawn; and where it stands in text and cache."""
        size, most = self._cache.block_size, self._most
        told = _nobody(most)
        longs, ints, _ = _parts(told, most)
        longs[_ID : _SOURCE + 1, rows] = np.array([
            (
                max(0, sequence.tokens[at]), at, sequence.table[at // size] * size + at % size,
                sources[sequence.id] if unknown else most + row,
            )
            for row, (sequence, at, _, unknown) in zip(rows, asked, strict=True)
        ]).T  # fmt: skip
        ints[_LENGTH, rows] = longs[_POSITION, rows] + 1
        return told

    def _tell_draws(self, told: npt.NDArray[np.uint8], plan: Plan, seated: list[int]) -> None:
        """How to draw; the likeliest where nothing is told."""
        warm = [
            (row, draw)
            for row, draw in zip(seated, plan.draws, strict=True)
            if draw.sequence.sampling.temperature > 0
        ]
        if warm:
            longs, ints, floats = _parts(told, self._most)
            rows, asked = [row for row, _ in warm], [draw.sequence.sampling for _, draw in warm]
            longs[_KEY, rows] = [key_of(draw) for _, draw in warm]
            ints[_TOP_K, rows] = [one.top_k for one in asked]
            floats[:, rows] = np.array([(one.temperature, one.top_p, one.min_p) for one in asked]).T

    def _replay(self, shape: tuple[int, int]) -> None:
        if shape not in self._made:
            self._made[shape] = self._captured(shape)
        self._made[shape]()

    def _captured(self, shape: tuple[int, int]) -> Act:
        """Its first run draws, too, where what was drawn by the step ahead is still to be read."""
        drawn = self._drawn.clone()
        made = captured(lambda: self._compute(*shape), self._pool)
        self._drawn.copy_(drawn)
        return made

    def _compute(self, rows: int, splits: int) -> None:
        _, positions, places, sources, keys = self._longs[:, :rows]
        top_k, lengths = self._ints[:, :rows]
        temperature, top_p, min_p = self._floats[:, :rows]
        way = paged.of_decodes(self._cache, self._tables[:rows], lengths, places, splits)
        ids = self._tokens.index_select(0, sources)
        logits = self._model.logits(self._model(ids, positions, way.attend), self._logits[:rows])
        asked = sampling.Asked(temperature, keys, top_k, top_p, min_p, filters=True)
        sampling.draw(logits, asked, CHUNK, self._drawn[:rows])


def _asked(plan: Plan) -> list[Asked]:
    """A sequence's last token sits where those to come will."""
    return [
        Asked(one, at, (one.id, start + size - 1 - at), start >= one.known)
        for one, start, size in plan.pieces
        for at in range(start, start + size)
    ]


def _nobody(seqs: int) -> npt.NDArray[np.uint8]:
    """What is told of rows that nobody has: they, too, look something up."""
    told = np.zeros(_told_bytes(seqs), np.uint8)
    longs, _, _ = _parts(told, seqs)
    longs[_PLACE], longs[_SOURCE] = -1, np.arange(seqs, 2 * seqs)
    return told


def _told_bytes(seqs: int) -> int:
    return (5 * 8 + 2 * 4 + 3 * 4) * seqs


def _parts(told: Any, seqs: int) -> tuple[Any, Any, Any]:
    """Of an array or tensor of bytes: int64 [5, seqs]; int32 [2, seqs]; fp32 [3, seqs] of temperature, top_p, min_p."""
    kinds = torch if isinstance(told, torch.Tensor) else np
    longs, ints, floats = told[: 40 * seqs], told[40 * seqs : 48 * seqs], told[48 * seqs :]
    return (
        longs.view(kinds.int64).reshape(5, seqs),
        ints.view(kinds.int32).reshape(2, seqs),
        floats.view(kinds.float32).reshape(3, seqs),
    )
