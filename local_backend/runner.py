"""The device's side of the loop: weights, cache and sampler. Steps are computed one after the other in the order
in which they were launched: by a GPU while the loop goes on, on a processor in a thread where it is to."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from local_backend.attention import Batch
from local_backend.cache import Cache, cache_dtype
from local_backend.capture import Act
from local_backend.devices import send
from local_backend.flight import Flight
from local_backend.kernels import ready
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.sampler import Masks, Sampler
from local_backend.types import Plan

if TYPE_CHECKING:
    from local_backend.graphs import Graphs
    from local_backend.prompts import Prompts
    from local_backend.team import Team


class Runner:
    def __init__(
        self, model: Decoder, config: EngineConfig, blocks: int, max_len: int, team: "Team | None" = None
    ) -> None:
        shape = model.config
        self._model, self._team = model, team
        self._device = device = model.embed.weight.device
        dtype = cache_dtype(model.embed, config.kv_cache_dtype)
        self._cache = Cache(shape, blocks, config.block_size, dtype, device, steady=config.deterministic)
        self._sampler = Sampler(shape.vocab_size, shape.eos, device)
        # A GPU goes on by itself.
        self._thread = ThreadPoolExecutor(1, "steps") if config.overlap and device.type == "cpu" else None
        self._last: Flight | None = None
        alone = team is None and not config.enforce_eager
        self._graphs = _graphs(model, self._cache, config, max_len) if alone else ()
        if team is not None:
            team.tell("cache", blocks, config.block_size)

    @torch.inference_mode()
    def warm(self, tell: Callable[[str], None]) -> None:
        """Prepare what takes its time, before anybody waits for it."""
        if self._device.type == "cpu":
            return
        try:
            for graphs in self._graphs:
                graphs.warm(tell)
        except RuntimeError as error:  # of a driver, or for want of memory: slower, but it serves
            tell(f"steps cannot be captured, and are launched one operation at a time: {error}")
            self._graphs = ()

    def launch(self, plan: Plan, draw: bool) -> Flight:
        """Compute a plan, and draw, unless that is to wait for `draw`. Sequences are read now, not later."""
        flight, before = Flight(plan), self._last
        self._last = flight
        fitting = next((graphs for graphs in self._graphs if graphs.fit(plan)), None)
        compute = (fitting.prepared if fitting else self._prepared)(flight, before)

        def work() -> None:
            compute()
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

    def _do(self, flight: Flight, work: Act) -> None:
        before = flight.done

        @torch.inference_mode()
        def run() -> None:
            if before is not None:
                before.result()  # raises what went wrong there
            work()
            flight.mark(self._device)

        if self._thread is None:
            run()
        else:
            flight.done = self._thread.submit(run)

    def _prepared(self, flight: Flight, before: Flight | None) -> Act:
        """What is to be done for a step of any kind."""
        plan, batch = flight.plan, Batch(flight.plan.pieces, self._cache)
        ends = [batch.ends[draw.piece] - plan.behind(draw) for draw in plan.draws]
        sources = before.sources() if batch.unknown and before else {}
        # As tables are now: they change while the step is computed.
        told = [(list(one.table), start, size) for one, start, size in plan.pieces] if self._team else []

        def act() -> None:
            if plan.copies:
                self._cache.copy(plan.copies)
            if batch.unknown:  # the draws of the step ahead take the places of their stand-ins
                assert before is not None
                assert before.drawn is not None
                rows = send([row for row, _ in batch.unknown], self._device)
                drawn = send([sources[number] for _, number in batch.unknown], self._device)
                batch.ids[rows] = before.drawn.ids[drawn]
            if self._team is not None:
                self._team.tell("step", plan.copies, told)
                self._team.same(batch.ids)
            hidden = self._model(batch.ids, batch.positions, batch.attend)
            if ends:
                flight.logits = self._model.logits(hidden[send(ends, self._device)])

        return act

    def _draw(self, flight: Flight, masks: Masks | None) -> None:
        if flight.logits is not None:
            flight.land(self._sampler(flight.logits, flight.plan.draws, masks))
            flight.logits = None


def _graphs(
    model: Decoder, cache: Cache, config: EngineConfig, max_len: int
) -> "tuple[()] | tuple[Prompts, Graphs]":
    if not ready(cache.device):
        return ()
    from local_backend.graphs import Graphs  # these need Triton
    from local_backend.prompts import Prompts

    pool = torch.cuda.graph_pool_handle() if cache.device.type == "cuda" else None
    prompts = Prompts(model, cache, config.step_tokens, max_len, pool)
    return prompts, Graphs(model, cache, config, max_len, pool)
