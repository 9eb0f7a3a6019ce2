"""What lies under /v1/responses: answers that were kept here are found again here, all else passes through."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import orjson

from gateway.config.course import way_of
from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Reply
from gateway.core.failure import BadRequest, Failure, NotFound, UpstreamFailed, WrongMethod
from gateway.edge.background import Background
from gateway.edge.endpoints import FAMILIES, Place, place_of
from gateway.edge.other_models import check_other_models
from gateway.edge.ownership import Ownership, held_by
from gateway.edge.reception import Handle, Reception, Visit
from gateway.edge.references import references
from gateway.edge.responses import RESPONSES, only, referred, said_before, with_body
from gateway.pipeline.relay import KEEP_ALIVE
from gateway.state.answers import Kept
from gateway.wire.base import EVENTS
from gateway.wire.responses.compaction import compacted, is_ours, resource, summing_up
from gateway.wire.responses.items import listed
from gateway.wire.responses.words import OURS, responses_usage
from gateway.wire.sides import Json

_FAMILY = FAMILIES["responses"]
_JSON = (b"content-type", b"application/json")
MOST_LISTED = 100  # items of a page
# The methods of a stored response, by the path below its own.
_METHODS = {(): ("GET", "DELETE"), ("input_items",): ("GET",), ("cancel",): ("POST",)}


class StoredResponses:
    """`passthrough` takes what a provider made."""

    def __init__(
        self, reception: Reception, ownership: Ownership, background: Background, passthrough: Handle
    ) -> None:
        self._reception, self._ownership = reception, ownership
        self._background, self._passthrough = background, passthrough
        self._answers = background.answers

    async def __call__(self, visit: Visit) -> None:
        place, method = place_of(_FAMILY, visit.scope["path"]), visit.scope["method"]
        kept = None
        if place.object_id.startswith(OURS):
            kept = await self._answers.find(place.object_id, visit.caller.team)
        if kept is not None:
            told = await self._of(kept, place, method, visit)
            await (self._say(visit, told) if isinstance(told, dict) else self._stream(visit, told))
        elif method == "POST" and not place.object_id and len(place.segments) > 1:
            await self._act(visit, place.segments[-1])
        else:
            await self._passthrough(visit)

    async def _of(self, kept: Kept, place: Place, method: str, visit: Visit) -> Json | AsyncIterator[bytes]:
        """What is asked of one answer. Raises BadRequest, NotFound, WrongMethod."""
        query = dict(parse_qsl(visit.scope["query_string"].decode("latin-1")))
        match method, place.segments[2:]:
            case "GET", ():
                streamed = query.get("stream") == "true"
                return await (self._again(kept, query) if streamed else self._background.state(kept))
            case "DELETE", ():
                await self._background.forget(kept)
                await self._answers.forget(kept.id, kept.team)
                return {"id": kept.id, "object": "response", "deleted": True}
            case "GET", ("input_items",):
                before = await said_before(self._answers, kept.previous, kept.team) if kept.previous else []
                return page([*before, *orjson.loads(kept.input)], query)
            case "POST", ("cancel",):
                if orjson.loads(kept.response).get("background"):
                    return await self._background.cancel(kept)
                message = "only responses that run in the background can be cancelled; this one has ended"
                raise BadRequest(message, code="invalid_request")
            case _, below if below in _METHODS:
                raise WrongMethod(visit.scope["path"], method, _METHODS[below])
        raise NotFound(f"there is no {visit.scope['path'][:200]!r} here", code="route_not_found")

    async def _again(self, kept: Kept, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Raises BadRequest where there is nothing to be streamed."""
        after = query.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal() or len(after) > 9:
            message = "'starting_after' must be the sequence number of an event"
            raise BadRequest(message, code="invalid_value", param="starting_after")
        told = await self._background.follow(kept, max(0, int(after) + 1))
        if told is None:
            message = "only what was asked for with background and stream can be streamed again"
            raise BadRequest(message, code="invalid_value", param="stream")
        return told

    async def _act(self, visit: Visit, action: str) -> None:
        """Compacting and counting: a provider's own where the model's first target speaks the format, unless what
        is to be read was compacted here."""
        body = await self._reception.read(visit)
        if b'"model"' not in body:
            return await self._passthrough(with_body(visit, body))
        payload, model, _ = RESPONSES.read(body)
        lane = visit.snapshot.lane(visit.caller, model)
        check_other_models(payload, lane.team)
        call = Call(
            "responses", RESPONSES.name, "POST", f"/responses/{action}", body, payload, model, stream=False
        )
        if not (way_of(call, lane.targets[0]).crosses or is_ours(payload.get("input"))):
            return await self._passthrough(with_body(visit, body))
        previous, team = payload.get("previous_response_id"), visit.caller.team
        past = await said_before(self._answers, previous, team)
        if previous and not past:
            raise NotFound(f"there is no object {str(previous)[:100]!r} here", code="not_found")
        lane = only(lane, call, crossing=True)
        said, resolved = await referred(self._answers, payload.get("input"), team)
        used = [one for one in references(body) if one.id != previous and one.id not in resolved]
        lane = held_by(lane, await self._ownership.provider_of(used, team))
        asked = {**payload, "input": [*past, *listed(said, visit.id)]}
        if action == "compact":
            return await self._compact(visit, lane, call, asked)
        counted = RESPONSES.shape(asked, len(body)).input_tokens
        return await self._say(
            visit, {"object": "response.input_tokens", "input_tokens": counted}, estimated=True
        )

    async def _compact(self, visit: Visit, lane: Lane, call: Call, asked: dict[str, Any]) -> None:
        """Have the model sum up what was said: a call like any other, in limits and usage too."""
        if call.payload.get("stream"):
            raise BadRequest("a compaction is not streamed", code="invalid_value", param="stream")
        if not asked["input"]:
            raise BadRequest("'input' is missing", code="missing_required_parameter", param="input")
        call = replace(call, path="/responses", payload=summing_up(asked))
        exchange = self._reception.exchange(visit, call)
        exchange.shape = RESPONSES.shape(call.payload, 0)

        async def deliver(reply: Reply) -> None:
            if reply.status < 300:
                summary = summary_in(reply.body)
                usage = usage_told(exchange)
                output = compacted(asked["input"], summary, exchange.id)
                reply.body = orjson.dumps(resource(output, usage, int(exchange.wall_time), exchange.id))
            await visit.writer.deliver(reply)

        await self._reception.serve(visit, exchange, lane, deliver)

    async def _say(self, visit: Visit, told: Json, *, estimated: bool = False) -> None:
        path = visit.scope["path"].removeprefix("/v1")
        call = Call("responses", RESPONSES.name, visit.scope["method"], path, b"", {}, "", stream=False)
        headers = [_JSON, *([(b"x-gateway-estimated", b"input_tokens")] if estimated else [])]
        await self._reception.answer(visit, call, Reply(200, headers, orjson.dumps(told)))

    async def _stream(self, visit: Visit, told: AsyncIterator[bytes]) -> None:
        """Whoever follows may leave: what is followed goes on."""
        call = Call("responses", RESPONSES.name, "GET", "/responses", b"", {}, "", stream=True)
        visit.scope["gateway.hangup"] = visit.scope["gateway.task"].cancel
        ending = partial(RESPONSES.error_event, request_id=visit.writer.request_id)
        reply = Reply(200, [(b"content-type", EVENTS)], told, KEEP_ALIVE, ending)
        await self._reception.answer(visit, call, reply)


def summary_in(body: Any) -> str:
    """The words of a whole answer. Raises UpstreamFailed where they are none, or not all."""
    response = orjson.loads(body) if isinstance(body, bytes) else {}
    parts = [part for item in response.get("output", ()) for part in item.get("content") or ()]
    summary = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    if response.get("status") != "completed" or not summary.strip():
        why = (response.get("incomplete_details") or {}).get("reason") or "it said nothing"
        message = f"the model did not sum up the conversation to its end ({why}); it is as it was"
        raise UpstreamFailed(message, Failure.BROKEN)
    return summary


def usage_told(exchange: Exchange) -> dict[str, Any] | None:
    usage = exchange.usage
    return responses_usage(
        {
            "prompt_tokens": usage.prompt or exchange.shape.input_tokens,
            "completion_tokens": usage.completion,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        }
    )


def page(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """A list as OpenAI gives it: the newest first unless asked, after an item. Raises BadRequest."""
    limit = query.get("limit", "20")
    if not limit.isdecimal() or len(limit) > 9 or not 1 <= int(limit) <= MOST_LISTED:
        raise BadRequest(f"'limit' must be from 1 to {MOST_LISTED}", code="invalid_value", param="limit")
    ordered = items if query.get("order") == "asc" else items[::-1]
    if after := query.get("after"):
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise BadRequest("'after' names no item of this list", code="invalid_value", param="after")
        ordered = ordered[places[0] + 1 :]
    data = ordered[: int(limit)]
    ends = (
        {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
        if data
        else {"first_id": None, "last_id": None}
    )
    return {"object": "list", "data": data, **ends, "has_more": len(ordered) > len(data)}
