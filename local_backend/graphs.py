"""Steps in which every sequence computes one token, each as one CUDA graph: products, attention, logits and draws are
launched at once. Their tables lie on the device from step to step; a step is told what has changed.

A graph has a fixed number of rows and of splits; rows that nobody has are padding, which is neither read nor written.
Where there is no CUDA the same is computed without being captured: that is how it is tested."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

import numpy as np
import torch

from local_backend import paged
from local_backend.cache import Cache
from local_backend.devices import send
from local_backend.flight import Flight
from local_backend.kernels import sampling
from local_backend.model import Decoder
from local_backend.sampler import CHUNK, Drawn, key_of
from local_backend.seats import Seats, paddings
from local_backend.types import Plan

Act = Callable[[], None]
# Rows times splits up to which a step is captured: past it what a program's launch costs is nothing beside its work,
# and what the splits find would take more memory than is left for it. An estimate.
LARGEST = 8192
_ID, _POSITION, _PLACE, _SOURCE, _KEY, _TOP_K = range(6)


class Graphs:
    def __init__(self, model: Decoder, cache: Cache, max_seqs: int, max_len: int) -> None:
        self._model, self._cache, device = model, cache, cache.device
        self._paddings = paddings(max_seqs)
        width = -(-max_len // cache.block_size)
        self._split, self._longest = paged.split_tiles(cache).split, max_len
        self._seats = Seats(max_seqs, width)
        self._tables = torch.zeros(max_seqs, width, dtype=torch.int32, device=device)
        self._ints = torch.zeros(6, max_seqs, dtype=torch.int64, device=device)
        self._ints[_PLACE] = -1  # nobody is there yet
        self._floats = torch.zeros(3, max_seqs, device=device)  # temperature, top_p, min_p
        self._logits = torch.empty(max_seqs, model.config.vocab_size, device=device)
        self._drawn = torch.zeros(max_seqs, dtype=torch.int64, device=device)
        self._made: dict[tuple[int, int], Act] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def fit(self, plan: Plan) -> bool:
        """Whether a step is one of these."""
        if any(piece.size > 1 for piece in plan.pieces):
            return False
        rows, splits = self._shape(plan)
        return rows * splits <= LARGEST

    def prepared(self, flight: Flight, before: Flight | None) -> Act:
        """What is to be done for a step. Sequences are read now, not then."""
        plan, shape = flight.plan, self._shape(flight.plan)
        rows = self._seats.sit([piece.sequence.id for piece in plan.pieces], shape[0])
        seated = [rows[draw.piece] for draw in plan.draws]
        changes = [
            change
            for piece, row in zip(plan.pieces, rows, strict=True)
            for change in self._seats.tell(row, piece.sequence.table)
        ]
        waits = any(piece.start >= piece.sequence.known for piece in plan.pieces)
        ints, floats = self._columns(plan, rows, before.sources() if waits and before else {})
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
            self._ints.copy_(send(ints, self._cache.device))
            self._floats.copy_(send(floats, self._cache.device))
            if waits:
                assert before is not None
                assert before.drawn is not None
                source = self._ints[_SOURCE]
                drawn = before.drawn.ids[source.clamp(min=0)]
                self._ints[_ID].copy_(torch.where(source < 0, self._ints[_ID], drawn))
            self._replay(shape)
            if plain:
                flight.land(Drawn(self._drawn.clone(), [], None))
            elif seated:
                flight.logits = self._logits[send(seated, self._cache.device)]

        return act

    def warm(self, tell: Callable[[str], None]) -> None:
        """Capture all of them now, the largest first, so that the smaller fit the memory it took."""
        shapes = list(self._shapes())
        for number, shape in enumerate(shapes, 1):
            self._made[shape] = self._captured(shape)
            tell(f"{number} of {len(shapes)} steps are captured")

    def _shape(self, plan: Plan) -> tuple[int, int]:
        """Rows and splits of the smallest graph that holds a step."""
        rows = self._paddings[bisect_left(self._paddings, len(plan.pieces))]
        longest = max(piece.start for piece in plan.pieces) + 1
        return rows, self._splits(longest)

    def _shapes(self) -> Iterator[tuple[int, int]]:
        splits = self._splits(self._longest)
        while splits:
            yield from ((rows, splits) for rows in reversed(self._paddings) if rows * splits <= LARGEST)
            splits //= 2

    def _splits(self, length: int) -> int:
        """A power of two that is enough for so many keys."""
        return 1 << (-(-length // self._split) - 1).bit_length() if self._split else 1

    def _columns(self, plan: Plan, rows: list[int], sources: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Of each row: its token, or where that is being drawn; where it stands in text and cache; how to draw."""
        size = self._cache.block_size
        ints = np.full(self._ints.shape, -1, np.int64)
        floats = np.zeros(self._floats.shape, np.float32)
        ints[_ID : _SOURCE + 1, rows] = np.array([
            (
                sequence.tokens[start], start, sequence.table[start // size] * size + start % size,
                sources[sequence.id] if start >= sequence.known else -1,
            )
            for sequence, start, _ in plan.pieces
        ]).T  # fmt: skip
        np.maximum(ints[: _POSITION + 1], 0, out=ints[: _POSITION + 1])  # padding, too, looks something up
        warm = [draw for draw in plan.draws if draw.sequence.sampling.temperature > 0]
        if warm:
            at, asked = [rows[draw.piece] for draw in warm], [draw.sequence.sampling for draw in warm]
            ints[_KEY, at] = [key_of(draw) for draw in warm]
            ints[_TOP_K, at] = [one.top_k for one in asked]
            floats[:, at] = np.array([(one.temperature, one.top_p, one.min_p) for one in asked]).T
        return ints, floats

    def _replay(self, shape: tuple[int, int]) -> None:
        if shape not in self._made:
            self._made[shape] = self._captured(shape)
        self._made[shape]()

    def _captured(self, shape: tuple[int, int]) -> Act:
        """A first run compiles what is to be compiled and takes what memory libraries keep."""

        def act() -> None:
            self._compute(*shape)

        if self._pool is None:
            return act
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            act()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            act()
        return graph.replay

    def _compute(self, rows: int, splits: int) -> None:
        ids, positions, places, _, keys, top_k = self._ints[:, :rows]
        temperature, top_p, min_p = self._floats[:, :rows]
        lengths = (positions + 1).masked_fill(places < 0, 0).int()
        way = paged.of_decodes(self._cache, self._tables[:rows], lengths, places, splits)
        logits = self._logits[:rows]
        logits.copy_(self._model.logits(self._model(ids, positions, way.attend)))
        asked = sampling.Asked(temperature, keys, top_k.int(), top_p, min_p, filters=True)
        self._drawn[:rows].copy_(sampling.draw(logits, asked, CHUNK))
