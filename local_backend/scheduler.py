"""What each step computes. One rule: every sequence has tokens it has and tokens computed, and a step spends
its budget on closing the gap. Chunked prompts, prefix hits and decoding all follow from it.
"""

import heapq
from collections.abc import Iterable

from local_backend.blocks import BlockPool, chain
from local_backend.options import EngineConfig
from local_backend.types import Full, Piece, Sequence

Waiting = tuple[int, float, int, Sequence]


class Scheduler:
    """Torch-free, and without a clock of its own."""

    def __init__(self, config: EngineConfig, pool: BlockPool) -> None:
        self._config, self.pool = config, pool
        self.running: list[Sequence] = []
        self._waiting: list[Waiting] = []
        self.preemptions = 0
        self.hit_tokens = 0
        self.asked_tokens = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Raises Full."""
        if len(self._waiting) >= self._config.max_waiting:
            raise Full(f"{len(self._waiting)} requests are waiting already", retry_after=1)
        heapq.heappush(self._waiting, (sequence.priority, sequence.arrived, sequence.id, sequence))

    def plan(self) -> list[Piece]:
        """Running first, the oldest first; then those that wait, never one before an equal that came earlier."""
        budget, pieces = self._config.step_tokens, []
        preempted = False
        for sequence in list(self.running):
            if sequence not in self.running:
                continue  # it made room for an older one
            count = min(len(sequence.tokens) - sequence.computed, budget)
            if count <= 0:
                continue
            while not self._grow(sequence, sequence.computed + count):
                preempted = True
                if self._preempt_newest() is sequence:
                    break
            else:
                pieces.append(Piece(sequence, sequence.computed, count))
                budget -= count
        while not preempted and self._waiting and budget > 0 and len(self.running) < self._config.max_seqs:
            count = self._admit(self._waiting[0][-1], budget)
            if not count:
                break
            sequence = heapq.heappop(self._waiting)[-1]
            self.running.append(sequence)
            pieces.append(Piece(sequence, sequence.computed, count))
            budget -= count
        return [piece for piece in pieces if piece.sequence in self.running]

    def settle(self, pieces: Iterable[Piece]) -> None:
        """These pieces have been computed: their full blocks can be found by others from now on."""
        size = self._config.block_size
        for sequence, start, count in pieces:
            sequence.computed = start + count
            while len(sequence.hashes) < sequence.computed // size:
                place = len(sequence.hashes)
                parent = sequence.hashes[-1] if sequence.hashes else b""
                digest = chain(parent, sequence.tokens[place * size : (place + 1) * size], sequence.salt)
                sequence.hashes.append(digest)
                self.pool.publish(sequence.table[place], digest)

    def finish(self, sequence: Sequence) -> None:
        """Done or given up, in whatever phase: its blocks come back."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self._waiting = [one for one in self._waiting if one[-1] is not sequence]
            heapq.heapify(self._waiting)
        self._release(sequence)

    def sequences(self) -> list[Sequence]:
        return [*self.running, *(one[-1] for one in self._waiting)]

    def _admit(self, sequence: Sequence, budget: int) -> int:
        """Take what the prefix cache has and blocks for the rest; the tokens to compute now, 0 for no room."""
        size = self._config.block_size
        known, parent = [], b""
        for start in range(0, (len(sequence.tokens) - 1) // size * size, size):  # the last token is computed
            parent = chain(parent, sequence.tokens[start : start + size], sequence.salt)
            known.append(parent)
        sequence.table = self.pool.match(known)
        hit = len(sequence.table) * size
        count = min(len(sequence.tokens) - hit, budget)
        if not self._grow(sequence, hit + count):
            self._release(sequence)
            return 0
        sequence.hashes = known[: hit // size]
        sequence.computed = hit
        if not sequence.generated:
            sequence.cached = hit
            self.hit_tokens += hit
            self.asked_tokens += len(sequence.tokens)
        return count

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        missing = -(-tokens // self._config.block_size) - len(sequence.table)
        if missing > self.pool.free:
            return False
        if missing > 0:
            sequence.table += self.pool.take(missing)
        return True

    def _preempt_newest(self) -> Sequence:
        """Forget what the newest has computed and let it wait: resuming is mostly a prefix hit."""
        sequence = self.running.pop()
        self._release(sequence)
        self.preemptions += 1
        heapq.heappush(self._waiting, (sequence.priority, sequence.arrived, sequence.id, sequence))
        return sequence

    def _release(self, sequence: Sequence) -> None:
        self.pool.give_back(sequence.table)
        sequence.table, sequence.hashes, sequence.computed = [], [], 0
