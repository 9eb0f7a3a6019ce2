"""The loop: plan, launch, settle. `step()` can be called alone, in tests and benchmarks."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from local_backend.blocks import BlockPool
from local_backend.cache import cache_dtype, token_bytes
from local_backend.compiling import Compiling, masks
from local_backend.embedder import Embedder, Embeddings
from local_backend.flight import Flight
from local_backend.metrics import Laps, Metrics
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.runner import Runner
from local_backend.scheduler import Scheduler
from local_backend.types import (
    BadJob,
    Compile,
    Deliver,
    Delta,
    Finish,
    Job,
    Logprob,
    Plan,
    Sequence,
    check_tokens,
)  # fmt: skip

if TYPE_CHECKING:
    from local_backend.team import Team

_PATIENCE = 0.02  # seconds that an idle step waits for a grammar, before it looks for other work


class Engine:
    """Owned by one thread: whoever calls `step` also calls `add` and `abort`."""

    def __init__(  # noqa: PLR0913 - what an engine is made of
        self,
        model: Decoder,
        config: EngineConfig,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.perf_counter,
        compile: Compile | None = None,
        embedder: Embedder | None = None,
        team: "Team | None" = None,
    ) -> None:
        shape = model.config
        blocks, self.max_len = _sizes(model, config)
        self.pool = BlockPool(blocks, config.block_size)
        self.scheduler = Scheduler(config, self.pool)
        self.metrics = metrics or Metrics()
        self._config, self._clock, self._eos = config, clock, frozenset(shape.eos)
        self._vocabulary = shape.vocab_size
        self._runner = Runner(model, config, blocks, self.max_len, team)
        self._flight: Flight | None = None
        self._compiling = Compiling(compile) if compile else None
        dealt_out = "a model that is dealt out to several ranks makes none; leave --tensor-parallel out"
        self._no_embeddings = dealt_out if team else "this model makes no embeddings"
        self._embeddings = Embeddings(embedder, config.step_tokens, self.metrics) if embedder else None
        self._numbers = count()

    @property
    def has_work(self) -> bool:
        generates = self.scheduler.running or self.scheduler.waiting or self._flight or self._compiling
        return bool(generates or self._embeddings)

    def add(self, job: Job, deliver: Deliver) -> list[Sequence]:
        """One sequence per choice, to be aborted each alone. Raises Full, BadJob."""
        self._check(job)
        limit = min(len(job.tokens) + job.sampling.max_tokens, self.max_len)
        now = self._clock()
        sequences = [
            Sequence(
                next(self._numbers), list(job.tokens), len(job.tokens), limit,
                replace(job.sampling, choice=choice), deliver, job.salt, job.priority, now,
            )
            for choice in range(job.choices)
        ]  # fmt: skip
        if job.embed:
            self._embed(sequences[0])
            return sequences
        self.scheduler.check_room(now, len(self._compiling or ()))
        if self._compiling is not None and job.sampling.grammar:
            self._compiling.add(job.sampling.grammar, sequences)
        else:
            self._schedule(sequences)
        return sequences

    def abort(self, sequence: Sequence) -> None:
        """Nobody waits for it any more. Idempotent; what is still on the way of it is dropped."""
        if sequence.finish is None:
            if self._embeddings is not None:
                self._embeddings.remove(sequence)
            self._end(sequence, Finish.ABORT)
            sequence.deliver(sequence.sampling.choice, Delta((), Finish.ABORT, sequence.cached))
            self.metrics.aborts += 1

    def step(self) -> None:
        """Launch what there is to compute; then read back the step before it, or this one where steps do not
        overlap. Draws that must know the ones before them are made after those have been read back."""
        began, lap = self._clock(), Laps(self._clock, self.metrics.phases)
        if self._embeddings:
            self._embeddings.step(self._end)
            lap("embed")
        if self._compiling:
            self._take_grammars(self._compiling)
        if self._config.speculate:
            self._settle_flight()  # how many drafts were drawn decides what comes next
            lap("settle")
        plan = self.scheduler.plan()
        lap("plan")
        flight = self._runner.launch(plan, draw=not plan.late) if plan.pieces else None
        lap("launch")
        self._settle_flight()
        lap("settle")
        if flight and plan.late:
            self._runner.draw(flight, masks(plan))
            lap("draw")
        self._flight = flight
        if not self._config.overlap:
            self._settle_flight()
            lap("settle")
        if flight:
            self._count(plan, self._clock() - began)
        self._gauge()

    def _check(self, job: Job) -> None:
        check_tokens(job.tokens, self.max_len - 1, self._vocabulary)
        sampling = job.sampling
        largest = max(*sampling.stop_ids, *(token for token, _ in sampling.logit_bias), 0, 0)
        if largest >= self._vocabulary:
            raise BadJob(f"there is no token {largest}: this model's vocabulary has {self._vocabulary}")
        if sampling.grammar and self._compiling is None:
            raise BadJob("this engine has been given nothing to compile grammars with")

    def _embed(self, sequence: Sequence) -> None:
        if self._embeddings is None:
            raise BadJob(self._no_embeddings)
        self._embeddings.add(sequence)

    def _schedule(self, sequences: list[Sequence]) -> None:
        """The first computes the prompt; the others wait for it."""
        first, *first.forks = sequences
        self.scheduler.add(first)

    def _take_grammars(self, compiling: Compiling) -> None:
        """Who has its grammar may be scheduled."""
        is_idle = not (self.scheduler.running or self.scheduler.waiting or self._flight)
        for sequences, is_made in compiling.take(_PATIENCE if is_idle else 0.0):
            alive = [one for one in sequences if one.finish is None]
            if is_made and alive:
                self._schedule(alive)
            elif not is_made:
                for sequence in alive:
                    self._end(sequence, Finish.ERROR)
                    sequence.deliver(sequence.sampling.choice, Delta((), Finish.ERROR, 0))

    def warm(self, tell: Callable[[str], None]) -> None:
        """Prepare what would make the first callers wait; `tell` hears how far it has come."""
        self._runner.warm(tell)

    def close(self) -> None:
        self._runner.close()
        if self._compiling is not None:
            self._compiling.close()

    # settling

    def _settle_flight(self) -> None:
        """Wait for the step in flight: its stand-ins become tokens, its full blocks can be found by others."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        ids, logprobs = flight.wait()
        # Before the draws: who ends with this step leaves to the next what it has computed in it.
        for piece in flight.plan.pieces:
            if piece.sequence.running:
                self.scheduler.publish(piece.sequence)
        for index, (draw, token) in enumerate(zip(flight.plan.draws, ids, strict=True)):
            if self.scheduler.settle(draw, token):
                self._extend(draw.sequence, token, logprobs.get(index))

    def _extend(self, sequence: Sequence, token: int, logprob: Logprob | None) -> None:
        self._time(sequence)
        if sequence.sampling.penalised:
            sequence.counts[token] = sequence.counts.get(token, 0) + 1
        finish, told = self._finish_of(sequence, token), True
        if finish is Finish.STOP:
            told = False
        elif sequence.grammar is not None and not sequence.grammar.accept(token):
            finish, told = Finish.STOP, False  # no way on: what there is, is all there will be
        elif sequence.grammar is not None and sequence.grammar.over:
            finish = Finish.STOP
        if finish is not None:
            self._end(sequence, finish)
        scored = () if logprob is None else (logprob,)
        delta = (
            Delta((token,), finish, sequence.cached, scored) if told else Delta((), finish, sequence.cached)
        )
        sequence.deliver(sequence.sampling.choice, delta)

    def _finish_of(self, sequence: Sequence, token: int) -> Finish | None:
        sampling = sequence.sampling
        if token in sampling.stop_ids or (token in self._eos and not sampling.ignore_eos):
            return Finish.STOP
        return Finish.LENGTH if sequence.known >= sequence.limit else None

    def _end(self, sequence: Sequence, finish: Finish) -> None:
        sequence.finish = finish
        self.scheduler.finish(sequence)
        self.metrics.finished[finish.value] = self.metrics.finished.get(finish.value, 0) + 1

    # account

    def _time(self, sequence: Sequence) -> None:
        now, metrics = self._clock(), self.metrics
        if not sequence.first_token:
            sequence.first_token = now
            metrics.first_token.observe(now - sequence.arrived)
        else:
            metrics.between.observe(now - sequence.last_token)
        sequence.last_token = now
        metrics.tokens_out += 1

    def _count(self, plan: Plan, seconds: float) -> None:
        metrics = self.metrics
        metrics.steps += 1
        metrics.step_seconds += seconds
        metrics.tokens_in += sum(max(0, min(p.sequence.prompt - p.start, p.size)) for p in plan.pieces)

    def _gauge(self) -> None:
        """Also where nothing was launched: who has left, and left blocks behind, may have been the last."""
        metrics, scheduler = self.metrics, self.scheduler
        metrics.running, metrics.waiting = len(scheduler.running), scheduler.waiting
        metrics.blocks_used, metrics.blocks = self.pool.used, self.pool.count - 1
        metrics.preemptions = scheduler.preemptions
        metrics.hit_tokens, metrics.asked_tokens = scheduler.hit_tokens, scheduler.asked_tokens
        metrics.drafts, metrics.drafts_drawn = scheduler.drafts, scheduler.drafts_drawn


def _sizes(model: Decoder, config: EngineConfig) -> tuple[int, int]:
    """Blocks that fit the memory given, as many as can be of use; and the longest sequence they hold."""
    shape = model.config
    longest = min(config.max_len or shape.max_positions, shape.max_positions)
    token = token_bytes(shape, cache_dtype(model.embed, config.kv_cache_dtype))
    wanted = config.max_seqs * -(-longest // config.block_size) + 1
    blocks = max(2, min(config.kv_memory // (token * config.block_size), wanted))
    return blocks, min(longest, (blocks - 1) * config.block_size)
