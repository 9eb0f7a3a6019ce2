"""The device's side of the loop: weights, cache and sampler. Steps are computed one after the other in the order
in which they were launched, in a thread of their own where the loop is to go on meanwhile."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from local_backend.attention import Batch, Cache
from local_backend.fp8 import Fp8Embedding
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.sampler import Drawn, Masks, Sampler
from local_backend.types import Logprob, Plan

if TYPE_CHECKING:
    from local_backend.team import Team

_CACHED = {torch.bfloat16: torch.bfloat16, torch.float16: torch.float16}


class Flight:
    """A step on its way. Its stand-ins are what `before`, the step ahead of it, draws."""

    def __init__(self, plan: Plan, batch: Batch, before: "Flight | None") -> None:
        self.plan, self.batch = plan, batch
        self.logits: Tensor | None = None
        self.drawn: Drawn | None = None
        self.done: Future[None] | None = None
        self.told: list[
            tuple[list[int], int, int]
        ] = []  # to followers: of each piece its table, start and size
        if batch.unknown:
            assert before is not None
            places = {draw.sequence.id: index for index, draw in enumerate(before.plan.draws)}
            rows = [(row, places[number]) for row, number in batch.unknown]
            self._rows, self._draws = torch.tensor(rows, device=batch.ids.device).T
            self._before: Flight | None = before

    def fill_in(self) -> None:
        """Put the draws of the step ahead where their stand-ins are."""
        if self.batch.unknown:
            assert self._before is not None
            assert self._before.drawn is not None
            self.batch.ids[self._rows] = self._before.drawn.ids[self._draws]
            self._before = None

    def wait(self) -> tuple[list[int], dict[int, Logprob]]:
        """The ids drawn, in the order of the plan's draws, and logprobs where asked."""
        if self.done is not None:
            self.done.result()
        if self.drawn is None:
            return [], {}
        return self.drawn.ids.tolist(), self.drawn.logprobs(self.plan.draws)


class Runner:
    def __init__(self, model: Decoder, config: EngineConfig, blocks: int, team: "Team | None" = None) -> None:
        shape = model.config
        self._model, self._team = model, team
        device = model.embed.weight.device
        self._cache = Cache(shape, blocks, config.block_size, cache_dtype(model), device)
        self._sampler = Sampler(shape.vocab_size, shape.eos, device)
        self._thread = ThreadPoolExecutor(1, "steps") if config.overlap else None
        self._last: Flight | None = None
        if team is not None:
            team.tell("cache", blocks, config.block_size)

    def launch(self, plan: Plan, draw: bool) -> Flight:
        """Compute a plan, and draw, unless that is to wait for `draw`. Sequences are read now, not later."""
        flight = Flight(plan, Batch(plan.pieces, self._cache), self._last)
        self._last = flight
        if self._team is not None:  # as tables are now: they change while the step is computed
            flight.told = [(list(one.table), start, size) for one, start, size in plan.pieces]

        def work() -> None:
            self._compute(flight)
            if draw:
                self._draw(flight, None)

        self._do(flight, work)
        return flight

    def draw(self, flight: Flight, masks: Masks) -> None:
        self._do(flight, lambda: self._draw(flight, masks))

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        if self._team is not None:
            self._team.close()

    def _do(self, flight: Flight, work: Callable[[], None]) -> None:
        if self._thread is None:
            work()
            return
        before = flight.done

        def run() -> None:
            if before is not None:
                before.result()  # raises what went wrong there
            work()

        flight.done = self._thread.submit(run)

    @torch.inference_mode()
    def _compute(self, flight: Flight) -> None:
        plan, batch = flight.plan, flight.batch
        if plan.copies:
            self._cache.copy(plan.copies)
        flight.fill_in()
        if self._team is not None:
            self._team.tell("step", plan.copies, flight.told)
            self._team.same(batch.ids)
        hidden = self._model(batch.ids, batch.positions, batch.attend)
        if plan.draws:
            rows = [batch.ends[draw.piece] - plan.behind(draw) for draw in plan.draws]
            flight.logits = self._model.logits(hidden[rows])

    @torch.inference_mode()
    def _draw(self, flight: Flight, masks: Masks | None) -> None:
        if flight.logits is not None:
            flight.drawn = self._sampler(flight.logits, flight.plan.draws, masks)
            flight.logits = None


def cache_dtype(model: Decoder) -> torch.dtype:
    """As the weights are, so are keys and values; fp32 beside int8 weights, and beside fp8 what was asked for."""
    embed = model.embed
    return _CACHED.get(embed.kind if isinstance(embed, Fp8Embedding) else embed.weight.dtype, torch.float32)
