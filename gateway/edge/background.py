"""Responses that go on when their client has gone, before providers that keep none themselves.

A run is the call that asked for it, in a task of its own: its limits, its record and its usage are that call's. The
call's own task stays until the run has ended, so that the server's drain reaches it as it reaches all calls.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.config.snapshot import Lane
from gateway.core.exchange import Exchange, Reply
from gateway.core.failure import BadRequest, GatewayError, NotFound, Overloaded
from gateway.edge.reception import Reception, Visit
from gateway.edge.run import Run, ending
from gateway.pipeline.relay import KEEP_ALIVE
from gateway.state.answers import Answers, Kept, NotKept
from gateway.state.runs import Runs
from gateway.wire import sse
from gateway.wire.base import EVENTS
from gateway.wire.registry import DIALECTS
from gateway.wire.responses.items import listed
from gateway.wire.responses.resource import failed
from gateway.wire.responses.words import PENDING
from gateway.wire.sides import WRONG_SHAPE, Json

MOST_RUNS = 256  # of one process at once
QUICK = 0.5  # seconds in which a refusal still is the call's own answer
TICK = 1.0  # seconds between what other workers are told
LOOK, LOOKS = 0.5, 10  # seconds between looks at what another worker tells; looks for the end of what it ends
TRIES = 30  # to keep how a run ended, a TICK apart
WRONG_KIND = "a value of this call is not of the kind its API takes; check the kinds of its fields"
_LOST = "the process that made this response has ended"
_JSON, _STREAM = [(b"content-type", b"application/json")], [(b"content-type", EVENTS)]


class Background:
    def __init__(self, reception: Reception, answers: Answers, runs: Runs) -> None:
        self._reception, self.answers, self._store = reception, answers, runs
        self._runs: dict[str, Run] = {}
        self._turn = asyncio.Lock()  # a piece is noted once

    async def serve(self, visit: Visit, exchange: Exchange, lane: Lane, asked: Mapping[str, Any]) -> None:
        """Answer with what is known by now, and stay until all is. Raises what the call is refused for."""
        if asked.get("background") is not True:
            message = "'background' must be true or false"
            raise BadRequest(message, code="invalid_type", param="background")
        if exchange.call.payload.get("store") is False:
            message = "a response that is made in the background must be kept, and this one may not be"
            raise BadRequest(message, code="invalid_value", param="background")
        if len(self._runs) >= MOST_RUNS:
            raise Overloaded("as many responses are made in the background as may be; try again later")
        run = Run(exchange, streams=asked.get("stream") is True)
        self._runs[run.id] = run
        carrying = asyncio.get_running_loop().create_task(self._carry(run, visit, lane))
        run.scope = {**visit.scope, "gateway.task": carrying}
        try:
            if await self._answer(run, visit, asked):
                await asyncio.wait([carrying])
        except asyncio.CancelledError:  # its client cannot end it: the process ends
            if run.is_going:
                carrying.cancel()
        finally:
            run.decided.set()
            if not run.shown:
                self._stop(run)
            await asyncio.wait([carrying])
            del self._runs[run.id]

    async def _carry(self, run: Run, visit: Visit, lane: Lane) -> None:
        await self._walk(run, visit, lane)
        run.turned.set()
        await run.decided.wait()
        if run.shown:
            await self._close(run)
        run.end()

    async def _walk(self, run: Run, visit: Visit, lane: Lane) -> None:
        """The corridor, until its end or the order to end."""
        try:
            await self._reception.serve(replace(visit, scope=run.scope), run.exchange, lane, run.take)
            if run.is_going:
                run.fail("the answer broke off")
        except GatewayError as error:
            run.refuse(error)
        except asyncio.CancelledError:
            run.cancel() if run.is_cancelled else run.refuse(
                Overloaded("the gateway is shutting down; try again")
            )
        except Exception as error:
            message = f"a call failed inside the gateway: {error!r}"
            self._reception.log("error", message, request_id=run.exchange.request_id)
            run.refuse(GatewayError("the gateway failed; its operator has been told"))

    async def _answer(self, run: Run, visit: Visit, asked: Mapping[str, Any]) -> bool:
        """Whether there is something to come back to."""
        with suppress(TimeoutError):
            await asyncio.wait_for(run.turned.wait(), QUICK)
        if isinstance(run.refusal, GatewayError):
            raise run.refusal
        if run.refusal is not None:
            await visit.writer.deliver(run.refusal)
            return False
        try:
            await self._keep(run, asked)
        except NotKept as error:
            raise Overloaded(f"the response could not be kept ({error}); try again") from None
        run.decided.set()
        if run.streams:
            ending = partial(DIALECTS["openai.responses"].error_event, request_id=run.exchange.request_id)
            told = Reply(200, _STREAM, run.told(0), KEEP_ALIVE, ending)
        else:
            told = Reply(200, _JSON, orjson.dumps(run.response))
        await visit.writer.deliver(told)
        return True

    async def _keep(self, run: Run, asked: Mapping[str, Any]) -> None:
        """Every worker knows of the run. Raises NotKept, BadRequest."""
        try:
            run.describe()
            items = orjson.dumps(listed(asked.get("input"), run.exchange.id))
        except WRONG_SHAPE:  # the corridor, which says which field, has not come so far yet
            raise BadRequest(WRONG_KIND, code="invalid_value") from None
        await self._store.begin(run.id, streams=run.streams)
        previous, shown = asked.get("previous_response_id"), run.response
        await self.answers.keep(Kept(run.id, run.team, previous, items, orjson.dumps(shown)))
        run.shown = shown["status"]

    async def _close(self, run: Run) -> None:
        """Its last word, for all who come back to it."""
        for left in range(TRIES, 0, -1):
            try:
                await self._tell([run])
                return
            except NotKept as error:
                if left == 1:
                    message = (
                        f"how a response ended could not be kept ({error}); it will be told to have failed"
                    )
                    self._reception.log("error", message, request_id=run.exchange.request_id)
                else:
                    await asyncio.sleep(TICK)

    async def watch(self) -> None:
        """Tell other workers what goes on here, and end what they say; runs until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            if known := [run for run in self._runs.values() if run.shown]:
                with suppress(NotKept):
                    for id in await self._tell(known):
                        if (run := self._runs.get(id)) is not None:  # it may have ended meanwhile
                            self._stop(run)

    async def _tell(self, runs: list[Run]) -> set[str]:
        """Returns the ids of those that are to end. Whoever sees that a run has ended sees all that it told. Raises
        NotKept."""
        async with self._turn:
            counts = {run: len(run.events) for run in runs}
            responses = {run: run.response for run in runs if run.response["status"] != run.shown}
            told = {
                run.id: (run.noted, b"".join(run.events[run.noted :]))
                for run in runs
                if counts[run] > run.noted
            }
            ends = await self._store.beat([run.id for run in runs], told)
            for run in runs:
                run.noted = counts[run]
            for run, response in responses.items():
                size = sum(map(len, run.events))
                await self.answers.change(run.id, run.team, orjson.dumps(response), size)
                run.shown = response["status"]
            return ends

    def _stop(self, run: Run) -> None:
        if run.is_going and not run.is_cancelled:
            run.is_cancelled = True
            run.scope.get("gateway.hangup", run.scope["gateway.task"].cancel)()

    # for those who come back

    async def state(self, kept: Kept) -> Json:
        """The response as it is now, wherever it is made."""
        if (run := self._runs.get(kept.id)) is not None and run.is_going:
            return run.response
        response: Json = orjson.loads(kept.response)
        if response["status"] in PENDING and (run is not None or not await self._lives(kept.id)):
            return run.response if run is not None else failed(response, _LOST)
        return response

    async def cancel(self, kept: Kept) -> Json:
        """The response, ended. One that another worker makes may take a moment longer. Raises NotFound."""
        if (run := self._runs.get(kept.id)) is not None:
            self._stop(run)
            await run.over.wait()
            return run.response
        response = await self.state(kept)
        if response["status"] in PENDING:
            await self._store.end(kept.id)
        for _ in range(LOOKS):
            if response["status"] not in PENDING:
                break
            await asyncio.sleep(LOOK)
            response = await self.state(await self._again(kept))
        return response

    async def forget(self, kept: Kept) -> None:
        if (run := self._runs.get(kept.id)) is not None:
            self._stop(run)
        await self._store.forget(kept.id)

    async def follow(self, kept: Kept, since: int) -> AsyncIterator[bytes] | None:
        """The events from number `since` on; None where its client asked for none."""
        if (run := self._runs.get(kept.id)) is not None:
            return run.told(since) if run.streams else None
        sign = await self._store.look(kept.id)
        return self._elsewhere(kept, since) if sign is not None and sign.streams else None

    async def _elsewhere(self, kept: Kept, since: int) -> AsyncIterator[bytes]:
        while True:
            response = await self.state(await self._again(kept))
            for number, piece in await self._store.told(kept.id, since):
                for place, event in enumerate(sse.events(piece), number):
                    if place >= since:
                        since = place + 1
                        yield event
            if response["status"] not in PENDING:
                break
            await asyncio.sleep(LOOK)
        if response.get("error") == failed({}, _LOST)["error"]:
            yield ending(response, since)

    async def _again(self, kept: Kept) -> Kept:
        found = await self.answers.find(kept.id, kept.team)
        if found is None:
            raise NotFound(f"there is no object {kept.id!r} here any more", code="not_found")
        return found

    async def _lives(self, id: str) -> bool:
        sign = await self._store.look(id)
        return sign is not None and sign.lives
