"""POST /v1/responses: as it is where the provider speaks it, else across, with a memory of ours behind it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.config.course import way_of
from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Reply
from gateway.core.failure import BadRequest, NotFound
from gateway.edge.asgi import Message
from gateway.edge.background import WRONG_KIND, Background
from gateway.edge.inference import JSON, forwarded
from gateway.edge.noting import noted
from gateway.edge.other_models import check_other_models
from gateway.edge.ownership import Ownership, held_by
from gateway.edge.query import with_query
from gateway.edge.recent import Recent
from gateway.edge.reception import Handle, Reception, Visit
from gateway.edge.references import Reference, references
from gateway.state.answers import Answers, Kept, NotKept
from gateway.wire.base import EVENTS
from gateway.wire.registry import DIALECTS
from gateway.wire.responses.compaction import is_ours
from gateway.wire.responses.dialect import completed, items_told, last_response, unkept
from gateway.wire.responses.items import listed
from gateway.wire.responses.words import OURS, PENDING, answer_of
from gateway.wire.responses.writer import ResponsesWriter
from gateway.wire.sides import WRONG_SHAPE

RESPONSES = DIALECTS["openai.responses"]


class Responses:
    """`passthrough` takes calls that name no model: a stored prompt may name it."""

    def __init__(
        self, reception: Reception, ownership: Ownership, background: Background, passthrough: Handle
    ) -> None:
        self._reception, self._ownership = reception, ownership
        self._background, self._answers, self._passthrough = background, background.answers, passthrough

    async def __call__(self, visit: Visit) -> None:
        reception = self._reception
        body = await reception.read(visit)
        try:
            payload, model, stream = RESPONSES.read(body)
        except BadRequest as error:
            if error.code == "missing_required_parameter" and "model" not in orjson.loads(body):
                return await self._passthrough(with_body(visit, body))
            raise
        forward = JSON + forwarded(visit.head, visit.caller.team)
        if accept := visit.head.get(b"accept"):
            forward.append((b"accept", accept))
        path = with_query("/responses", visit.scope)
        call = Call("responses", RESPONSES.name, "POST", path, body, payload, model, stream, forward)
        lane = visit.snapshot.lane(visit.caller, model)
        check_other_models(payload, lane.team)
        recent: Recent | None = visit.scope.get("gateway.recent")
        if recent is not None:
            if payload.get("generate") is False:
                return await self._warmed(visit, call, recent)
            call = await self._gone_on(call, recent, visit.caller.team)
        lane, call = await self._remembering(visit, lane, call)
        if payload.get("background"):
            return await self._without_client(visit, lane, call, payload)
        return await self._serve(visit, lane, call, payload)

    async def _serve(self, visit: Visit, lane: Lane, call: Call, asked: Mapping[str, Any]) -> None:
        """`asked` is what the client said itself, without what was said before."""
        exchange = self._exchange(visit, call)

        async def deliver(reply: Reply) -> None:
            target = exchange.attempts[-1].target
            stored = call.payload.get("store") is not False
            if not stored and (recent := visit.scope.get("gateway.recent")) is not None:
                reply = remembered(reply, recent, asked, exchange.id)
            elif way_of(call, target).crosses:
                reply = await self._kept(reply, exchange, asked.get("input"))
            elif stored:
                reply = await noted(reply, self._ownership, exchange)
            await visit.writer.deliver(reply)

        return await self._reception.serve(visit, exchange, lane, deliver)

    async def _without_client(self, visit: Visit, lane: Lane, call: Call, asked: Mapping[str, Any]) -> None:
        """In the background: the provider's, where one speaks the format and so keeps what it makes, else ours."""
        if any(not way_of(call, target).crosses for target in lane.targets):
            return await self._serve(visit, only(lane, call, crossing=False), call, asked)
        call = replace(call, payload={**call.payload, "stream": True}, stream=True)
        return await self._background.serve(visit, self._exchange(visit, call), lane, asked)

    def _exchange(self, visit: Visit, call: Call) -> Exchange:
        assert isinstance(call.body, bytes)
        exchange = self._reception.exchange(visit, call)
        exchange.shape = RESPONSES.shape(call.payload, len(call.body))
        return exchange

    async def _gone_on(self, call: Call, recent: Recent, team: str) -> Call:
        """The call with what was said before over its connection. Raises BadRequest where it goes on from what nobody
        here knows."""
        payload, asked = call.payload, call.payload.get("previous_response_id")
        items, previous = recent.before(asked)
        if isinstance(previous, str) and not await said_before(self._answers, previous, team):
            try:
                await self._ownership.provider_of([Reference(previous)], team)
            except NotFound:
                message = f"Previous response with id {str(asked)[:100]!r} not found."
                code = "previous_response_not_found"
                raise BadRequest(message, code=code, param="previous_response_id") from None
        if not items:
            return call
        whole = {
            **payload,
            "input": [*items, *listed(payload.get("input"), "")],
            "previous_response_id": previous,
        }
        return replace(call, payload=whole, body=orjson.dumps(whole))

    async def _warmed(self, visit: Visit, call: Call, recent: Recent) -> None:
        """A turn that asks for no answer: what it says is said before the next. No provider could use it."""
        asked = {**call.payload, "store": False}
        try:
            writer = ResponsesWriter(asked, int(self._reception.now()), visit.id)
            told = writer.write({"model": call.model, "choices": [], "usage": {"total_tokens": 0}})
            told += writer.end()
        except WRONG_SHAPE:
            raise BadRequest(WRONG_KIND, code="invalid_value") from None
        response = last_response(told)
        assert response is not None
        recent.keep(response, listed(asked.get("input"), visit.id), asked.get("previous_response_id"))
        await self._reception.answer(visit, call, Reply(200, [(b"content-type", EVENTS)], told))

    async def _remembering(self, visit: Visit, lane: Lane, call: Call) -> tuple[Lane, Call]:
        """The targets that can go on from what the call refers to, and the call with what was said before.
        Raises NotFound for what is not the team's, BadRequest where no target has it."""
        assert isinstance(call.body, bytes)
        payload, team = call.payload, visit.caller.team
        previous, used = payload.get("previous_response_id"), references(call.body)
        changed: dict[str, Any] = {} if self._answers.keeps else {"store": False}
        past = await said_before(self._answers, previous, team)
        asked, resolved = await referred(self._answers, payload.get("input"), team)
        if past or resolved or (b'"compaction"' in call.body and is_ours(payload.get("input"))):
            used = [one for one in used if one.id != previous and one.id not in resolved]
            changed["input"] = [*past, *listed(asked, visit.id)]
            lane = only(lane, call, crossing=True)
        lane = held_by(lane, await self._ownership.provider_of(used, team))
        if not past and (previous not in (None, "") or payload.get("conversation")):
            lane = only(lane, call, crossing=False)
        return lane, replace(call, payload={**payload, **changed}) if changed else call

    async def _kept(self, reply: Reply, exchange: Exchange, asked: Any) -> Reply:
        """Hold the answer's end back until it is kept: the client may go on from it at once."""
        if reply.status >= 300 or exchange.call.payload.get("store") is False:
            return reply
        if isinstance(reply.body, bytes):
            response = orjson.loads(reply.body)
            if not await self._keep(response, exchange, asked):
                reply.body = orjson.dumps({**response, "store": False})
        else:
            reply.body = self._events(reply.body, exchange, asked)
        return reply

    async def _events(
        self, blocks: AsyncIterator[bytes], exchange: Exchange, asked: Any
    ) -> AsyncIterator[bytes]:
        async for block in blocks:
            response = last_response(block)
            stays = response is None or await self._keep(response, exchange, asked)
            yield block if stays else unkept(block)

    async def _keep(self, response: dict[str, Any], exchange: Exchange, asked: Any) -> bool:
        items = orjson.dumps(listed(asked, exchange.id))
        previous = exchange.call.payload.get("previous_response_id")
        kept = Kept(response["id"], exchange.caller.team, previous, items, orjson.dumps(response))
        try:
            await self._answers.keep(kept)
        except NotKept as error:
            message = f"an answer could not be kept ({error}); its client is told so"
            self._reception.log("error", message, request_id=exchange.request_id)
            return False
        return True


def remembered(reply: Reply, recent: Recent, asked: Mapping[str, Any], ident: str) -> Reply:
    """The reply, whose connection remembers its end before the client is told it."""

    async def events(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        items: list[dict[str, Any]] = []
        async for block in blocks:
            items += items_told(block)
            response = last_response(block) or {}
            if isinstance(response.get("id"), str) and response.get("status") != "failed":
                response = completed(response, items)
                recent.keep(response, listed(asked.get("input"), ident), asked.get("previous_response_id"))
            yield block

    if not isinstance(reply.body, bytes):
        reply.body = events(reply.body)
    return reply


async def said_before(answers: Answers, previous: Any, team: str) -> list[dict[str, Any]]:
    """The items of the conversation that an answer of ours ends; none for ids of others. Raises NotFound where
    its beginning is gone: half a conversation is none."""
    if not isinstance(previous, str) or not previous.startswith(OURS):
        return []
    turns = await answers.conversation(previous, team)
    if turns and orjson.loads(turns[-1].response)["status"] in PENDING:
        message = f"the response {previous[:100]!r} has not ended yet"
        raise BadRequest(message, code="invalid_value", param="previous_response_id")
    if turns and turns[0].previous:
        message = f"the conversation before {previous[:100]!r} is no longer kept"
        raise NotFound(message, code="not_found", param="previous_response_id")
    return [
        item for turn in turns for item in (*orjson.loads(turn.input), *orjson.loads(turn.response)["output"])
    ]


async def referred(answers: Answers, asked: Any, team: str) -> tuple[Any, set[str]]:
    """The input with items of our answers in the place of references to them, and the ids of those."""
    if not isinstance(asked, list):
        return asked, set()
    found: list[Any] = []
    resolved: set[str] = set()
    for item in asked:
        ident = str(item.get("id")) if isinstance(item, dict) and _refers(item) else ""
        answer = answer_of(ident)
        kept = await answers.find(answer, team) if answer else None
        if kept is not None:
            told = [*orjson.loads(kept.input), *orjson.loads(kept.response)["output"]]
            if same := [one for one in told if one["id"] == ident]:
                item, resolved = same[0], resolved | {ident}
        found.append(item)
    return found, resolved


def _refers(item: dict[str, Any]) -> bool:
    return item.get("type") == "item_reference" or item.keys() == {"id"}


def only(lane: Lane, call: Call, *, crossing: bool) -> Lane:
    """The targets that speak the format themselves, or those that are spoken to across. Raises BadRequest."""
    targets = tuple(one for one in lane.targets if way_of(call, one).crosses is crossing)
    if targets:
        return replace(lane, targets=targets)
    what = "was kept by the gateway" if crossing else "is kept by a provider"
    message = f'what this call goes on from {what}, and no target of "{lane.model}" can use it'
    raise BadRequest(message, code="mixed_providers", param="model")


def with_body(visit: Visit, body: bytes) -> Visit:
    """The same visit for another reader of its body."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return replace(visit, receive=receive)
