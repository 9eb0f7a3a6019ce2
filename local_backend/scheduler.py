"""What each step computes. One rule: every sequence has tokens it has and tokens computed, and a step spends
its budget on closing the gap. Chunked prompts, prefix hits, decoding and drafts all follow from it.

A plan counts as done when it is made: the next one can be made before the draws of this one are known, each of
which a stand-in (0) holds the place of. Drafts are stand-ins too, and better guesses: a step computes them, draws at
each, and keeps those that were drawn indeed. With them a step is settled before the next is planned.
"""

import heapq
from bisect import insort
from collections.abc import Collection

from local_backend.blocks import BlockPool, chain, root
from local_backend.ngram import Lookup
from local_backend.options import EngineConfig
from local_backend.types import Draw, Full, Piece, Plan, Sequence

Waiting = tuple[tuple[int, float, int], Sequence]


class Scheduler:
    """Torch-free, and without a clock of its own. `running` and those that wait are in the order of `rank`."""

    def __init__(self, config: EngineConfig, pool: BlockPool) -> None:
        self._config, self.pool = config, pool
        self.running: list[Sequence] = []
        self._waiting: list[Waiting] = []
        self.preemptions = 0
        self.hit_tokens = 0
        self.asked_tokens = 0
        self.drafts = 0
        self.drafts_drawn = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def check_room(self, now: float = 0.0, beside: int = 0) -> None:
        """Raises Full; `beside`: how many are about to be added. How long the next in line has waited is the best
        guess at when there is room again."""
        count = len(self._waiting) + beside
        if count >= self._config.max_waiting:
            waited = now - self._waiting[0][-1].arrived if self._waiting else 0
            raise Full(f"{count} requests are waiting already", min(60, max(1, round(waited))))

    def add(self, sequence: Sequence) -> None:
        heapq.heappush(self._waiting, (sequence.rank, sequence))

    def plan(self) -> Plan:
        """Running first, then those that wait: nobody before an equal that came earlier."""
        plan, most, before = Plan(), self._config.step_tokens, self.preemptions
        decoding = sum(_gap(one) == 1 for one in self.running)
        for sequence in list(self.running):
            gap, room = _gap(sequence), most - plan.tokens
            if gap == 1:
                decoding -= 1
            elif room > 1:  # a long prompt leaves each answer behind it its token
                room = max(1, room - decoding)
            count = min(gap, room)
            if not sequence.running or not count:  # it may have made room for an older one
                continue
            drafts = self._draft(sequence, most - plan.tokens - count)
            if self._clear(plan, sequence, count + len(drafts)):
                self._take(plan, sequence, count, drafts)
        crowded = self.preemptions > before
        while not crowded and self._waiting and plan.tokens < most:
            sequence = self._waiting[0][-1]
            if len(self.running) >= self._config.max_seqs or not self._admit(
                plan, sequence, most - plan.tokens
            ):
                break
        return plan

    def settle(self, draw: Draw, token: int) -> bool:
        """The token drawn takes its stand-in's place. False, and nothing is done, where nobody waits for it: the
        sequence has ended, or a draft before it was not drawn."""
        sequence, position = draw.sequence, draw.position
        if sequence.finish is not None or position >= len(sequence.tokens):
            return False
        if draw.draft is not None and draw.draft != token:
            self._cut(sequence, position + 1)
        sequence.tokens[position] = token
        sequence.pending -= 1
        if draw.draft == token:
            self.drafts_drawn += 1
            self.publish(sequence)
        return True

    def publish(self, sequence: Sequence) -> None:
        """Its draws are settled: what is full can be found by others from now on."""
        full = min(sequence.computed, sequence.known) // self._config.block_size
        if sequence.published < full:
            self._digest(sequence)
            for place in range(sequence.published, full):
                self.pool.publish(sequence.table[place], sequence.hashes[place])
            sequence.published = full

    def finish(self, sequence: Sequence) -> None:
        """Done or given up (its `finish` is set), in whatever phase: its blocks come back. A step in flight may
        still write to them, but before any later step does."""
        if heirs := _alive(sequence.forks):
            self._bequeath(sequence, heirs)
        if sequence.running:
            self._stop(sequence)
        else:
            self._waiting = [one for one in self._waiting if one[-1] is not sequence]
            heapq.heapify(self._waiting)

    def sequences(self) -> list[Sequence]:
        return [*self.running, *(one[-1] for one in self._waiting)]

    # one sequence's way

    def _admit(self, plan: Plan, sequence: Sequence, budget: int) -> bool:
        """Take what the prefix cache has and blocks for the rest, and compute the last token in any case."""
        if sequence.pending:
            return False
        self._digest(sequence)
        sequence.table = self.pool.match(sequence.hashes)
        hit = min(len(sequence.table) * self._config.block_size, len(sequence.tokens) - 1)
        sequence.computed, sequence.published = hit, len(sequence.table)
        count = min(len(sequence.tokens) - hit, budget)
        if not self._make_room(plan, sequence, count):
            self._release(sequence)
            return False
        if len(sequence.tokens) == sequence.prompt:
            sequence.cached = hit
            self.hit_tokens += hit
            self.asked_tokens += sequence.prompt
        heapq.heappop(self._waiting)
        self._run(sequence)
        self._take(plan, sequence, count)
        return True

    def _take(self, plan: Plan, sequence: Sequence, count: int, drafts: Collection[int] = ()) -> None:
        """Plan the next `count` tokens, and the draw where they are the last; drafts after that, and as many draws."""
        for at, draft in enumerate(drafts, len(sequence.tokens)):
            plan.draws.append(Draw(len(plan.pieces), sequence, at, draft))
        sequence.tokens += drafts
        sequence.pending += len(drafts)
        count += len(drafts)
        plan.pieces.append(Piece(sequence, sequence.computed, count))
        plan.tokens += count
        sequence.computed += count
        if sequence.computed == len(sequence.tokens):
            for one in (sequence, *self._fork(sequence)):
                plan.draws.append(Draw(len(plan.pieces) - 1, one, len(one.tokens)))
                one.tokens.append(0)
                one.pending += 1

    def _draft(self, sequence: Sequence, room: int) -> list[int]:
        """What it may say next, once its answer has begun: nothing past its end, no more than its even share of a
        step, and nothing where a neighbour could miss the block."""
        length, share = len(sequence.tokens), self._config.step_tokens // len(self.running) - 1
        most = min(self._config.speculate, share, room, sequence.limit - length - 1)
        begun = length > sequence.prompt and length - sequence.computed == 1
        blocks = len(self.running) - (-most // self._config.block_size)
        if most <= 0 or not begun or sequence.pending or blocks > self.pool.free:
            return []
        sequence.lookup = sequence.lookup or Lookup()
        drafts = sequence.lookup.draft(sequence.tokens, most)
        self.drafts += len(drafts)
        return drafts

    def _cut(self, sequence: Sequence, length: int) -> None:
        """Forget the drafts that follow: their stand-ins, what was computed of them, the blocks that it was to fill."""
        sequence.pending -= len(sequence.tokens) - length
        del sequence.tokens[length:]
        sequence.computed = min(sequence.computed, length - 1)
        used = -(-length // self._config.block_size)
        self.pool.give_back(sequence.table[used:])
        del sequence.table[used:]

    def _fork(self, sequence: Sequence) -> list[Sequence]:
        """The choices that waited for this prompt: they share its blocks, or wait on for a place of their own."""
        forks = _alive(sequence.forks)
        sequence.forks = []
        for fork in forks:
            fork.cached = sequence.cached
            if len(self.running) < self._config.max_seqs:
                fork.table = self.pool.share(sequence.table)
                fork.hashes, fork.published = sequence.hashes[:], sequence.published
                fork.computed = sequence.computed
                self._run(fork)
            else:
                self.add(fork)
        return forks

    def _bequeath(self, sequence: Sequence, heirs: list[Sequence]) -> None:
        """It ends before its forks began: the first of them goes on in its place."""
        heir, *heir.forks = heirs
        sequence.forks = []
        if sequence.running:
            heir.table = self.pool.share(sequence.table)
            heir.hashes, heir.published = sequence.hashes, sequence.published
            heir.computed, heir.cached = sequence.computed, sequence.cached
            self._run(heir)
        else:
            self.add(heir)

    def _make_room(self, plan: Plan, sequence: Sequence, count: int) -> bool:
        """Blocks of its own for the next `count` tokens; False where there are not enough."""
        size, table = self._config.block_size, sequence.table
        place = sequence.computed // size
        writes_known = place < len(table)
        copies = writes_known and self.pool.is_shared(table[place])
        missing = -(-(sequence.computed + count) // size) - len(table)
        if max(missing, 0) + copies > self.pool.free:
            return False
        if copies:
            (copy,) = self.pool.take(1)
            plan.copies.append((table[place], copy))
            self.pool.give_back([table[place]])
            table[place] = copy
        elif writes_known:
            self.pool.forget(table[place])
        sequence.published = min(sequence.published, place)
        if missing > 0:
            table += self.pool.take(missing, table[-1] if table else 0)
        return True

    def _clear(self, plan: Plan, sequence: Sequence, count: int) -> bool:
        """Make room at the cost of the last in line, which may be the sequence itself: then False."""
        while not self._make_room(plan, sequence, count):
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Forget what it has computed and let it wait: resuming is mostly a prefix hit."""
        self._stop(sequence)
        self.add(sequence)
        self.preemptions += 1

    def _digest(self, sequence: Sequence) -> None:
        size, hashes = self._config.block_size, sequence.hashes
        while len(hashes) < sequence.known // size:
            start = len(hashes) * size
            parent = hashes[-1] if hashes else root(sequence.salt)
            hashes.append(chain(parent, sequence.tokens[start : start + size]))

    def _run(self, sequence: Sequence) -> None:
        sequence.running = True
        insort(self.running, sequence, key=lambda one: one.rank)

    def _stop(self, sequence: Sequence) -> None:
        sequence.running = False
        self.running.remove(sequence)
        self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        self.pool.give_back(sequence.table)
        sequence.table, sequence.published, sequence.computed = [], 0, 0


def _gap(sequence: Sequence) -> int:
    """Tokens to be computed; none where the last draw is on its way already."""
    return 0 if len(sequence.tokens) >= sequence.limit else len(sequence.tokens) - sequence.computed


def _alive(sequences: list[Sequence]) -> list[Sequence]:
    return [one for one in sequences if one.finish is None]
