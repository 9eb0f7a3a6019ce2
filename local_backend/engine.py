"""The loop: plan, compute, settle. `step()` can be called alone, in tests and benchmarks."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import torch

from local_backend.attention import Batch, Cache
from local_backend.blocks import BlockPool
from local_backend.metrics import Metrics
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.sampler import sample
from local_backend.scheduler import Scheduler
from local_backend.types import Deliver, Delta, Finish, Job, Piece, Sequence


class Engine:
    """Owned by one thread: whoever calls `step` also calls `add` and `abort`."""

    def __init__(
        self,
        model: Decoder,
        config: EngineConfig,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        shape = model.config
        self.max_len = min(config.max_len or shape.max_positions, shape.max_positions)
        per_block = 4 * 2 * shape.layers * shape.kv_heads * shape.head_dim * config.block_size
        wanted = config.max_seqs * -(-self.max_len // config.block_size) + 1
        blocks = max(2, min(config.kv_memory // per_block, wanted, config.most_blocks))
        self.max_len = min(self.max_len, (blocks - 1) * config.block_size)
        self.pool = BlockPool(blocks, config.block_size)
        self.scheduler = Scheduler(config, self.pool)
        self.metrics = metrics or Metrics()
        self._model, self._clock = model, clock
        self._cache = Cache(shape.layers, blocks, config.block_size, shape.kv_heads, shape.head_dim)
        self._numbers = count()

    @property
    def has_work(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def add(self, job: Job, deliver: Deliver) -> list[Sequence]:
        """One sequence per choice, to be aborted each alone. Raises Full."""
        sequences = []
        for choice in range(job.choices):
            sampling = replace(job.sampling, choice=choice)
            sequence = Sequence(
                next(self._numbers), list(job.tokens), len(job.tokens), sampling, deliver, job.salt, job.priority,
                self._clock(),
            )  # fmt: skip
            self.scheduler.add(sequence)
            sequences.append(sequence)
        return sequences

    def abort(self, sequence: Sequence) -> None:
        """Nobody waits for it any more. Idempotent."""
        if not sequence.aborted and sequence in self.scheduler.sequences():
            self._end(sequence, Finish.ABORT)
            self.metrics.aborts += 1

    @torch.inference_mode()
    def step(self) -> None:
        pieces = self.scheduler.plan()
        if not pieces:
            return
        began = self._clock()
        batch = Batch(pieces, self._cache)
        hidden = self._model(batch.ids, batch.positions, batch.attend)
        self.scheduler.settle(pieces)
        self._draw(pieces, hidden)
        self._count(pieces, self._clock() - began)

    def _draw(self, pieces: list[Piece], hidden: torch.Tensor) -> None:
        rows, drawing, at = [], [], 0
        for piece in pieces:
            at += piece.size
            if piece.samples:
                rows.append(at - 1)
                drawing.append(piece.sequence)
        if not drawing:
            return
        ids = sample(self._model.logits(hidden[rows]), drawing)
        for sequence, token in zip(drawing, ids, strict=True):
            self._extend(sequence, token)

    def _extend(self, sequence: Sequence, token: int) -> None:
        now, metrics = self._clock(), self.metrics
        if not sequence.first_token:
            sequence.first_token = now
            metrics.first_token.observe(now - sequence.arrived)
        else:
            metrics.between.observe(now - sequence.last_token)
        sequence.last_token = now
        sequence.tokens.append(token)
        metrics.tokens_out += 1
        finish = self._finish_of(sequence, token)
        ids = () if finish is Finish.STOP else (token,)
        sequence.deliver(sequence.sampling.choice, Delta(ids, finish, sequence.cached))
        if finish is not None:
            self.scheduler.finish(sequence)
            metrics.finished[finish.value] = metrics.finished.get(finish.value, 0) + 1

    def _finish_of(self, sequence: Sequence, token: int) -> Finish | None:
        sampling = sequence.sampling
        if token in sampling.stop_ids or (token in self._model.config.eos and not sampling.ignore_eos):
            return Finish.STOP
        if sequence.generated >= sampling.max_tokens or len(sequence.tokens) >= self.max_len:
            return Finish.LENGTH
        return None

    def _end(self, sequence: Sequence, finish: Finish) -> None:
        sequence.aborted = True
        self.scheduler.finish(sequence)
        sequence.deliver(sequence.sampling.choice, Delta((), finish, sequence.cached))

    def _count(self, pieces: list[Piece], seconds: float) -> None:
        metrics, scheduler = self.metrics, self.scheduler
        metrics.steps += 1
        metrics.step_seconds += seconds
        metrics.tokens_in += sum(piece.size for piece in pieces if piece.size > 1)
        metrics.running, metrics.waiting = len(scheduler.running), scheduler.waiting
        metrics.blocks_used, metrics.blocks = self.pool.used, self.pool.count - 1
        metrics.preemptions = scheduler.preemptions
        metrics.hit_tokens, metrics.asked_tokens = scheduler.hit_tokens, scheduler.asked_tokens
