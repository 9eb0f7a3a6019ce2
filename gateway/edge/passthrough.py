"""Endpoints that pass through: the same auth, limits and accounting, and ids that only their team may use."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson

from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Reply, Shape
from gateway.core.failure import BadRequest, Forbidden
from gateway.edge.body import check_head, read_body, stream_body
from gateway.edge.endpoints import Family, check_open, segments_of
from gateway.edge.multipart import Upload, boundary_of
from gateway.edge.ownership import Ownership, minted, minted_in, references
from gateway.edge.reception import Reception, Visit
from gateway.wire.raw import LOOK
from gateway.wire.registry import DIALECTS

METHODS = ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH")
MOST_PAGES = 20  # of a provider's list, read for one page of a team's own objects
_FORWARDED = (b"content-type", b"accept", b"openai-beta", b"idempotency-key", b"x-client-request-id")
_RAW = DIALECTS["openai.raw"]


class Request(NamedTuple):
    """What is known of a request before its body is read."""

    visit: Visit
    family: Family
    segments: list[str]
    object_id: str
    provider: str | None  # that made the object

    @property
    def is_list(self) -> bool:
        at = self.family.at
        return bool(at) and self.visit.scope["method"] == "GET" and len(self.segments) == at


class Passthrough:
    """Handles one family of paths."""

    def __init__(self, reception: Reception, ownership: Ownership, family: Family) -> None:
        self._reception, self._ownership, self._family = reception, ownership, family

    async def __call__(self, visit: Visit) -> None:
        family, method = self._family, visit.scope["method"]
        if method not in METHODS:
            raise Forbidden(f"/v1/{family.label} does not take {method}", code="route_not_allowed")
        team = visit.snapshot.teams[visit.caller.team]
        check_open(family, team.name, team.passthrough)
        segments = segments_of(visit.scope["path"])
        object_id = _object_id(family, segments)
        provider = await self._ownership.provider_of(object_id, visit.caller.team) if object_id else None
        request = Request(visit, family, segments, object_id, provider)
        call, lane, upload = await self._read(request)
        exchange = self._reception.exchange(visit, call)
        size = len(call.body) if isinstance(call.body, bytes) else 0
        exchange.shape = _RAW.shape(call.payload, size) if call.payload else NO_OUTPUT
        try:
            await self._serve(request, exchange, lane)
        finally:
            if upload is not None:
                upload.close()

    async def _read(self, request: Request) -> tuple[Call, Lane, Upload | None]:
        visit, family = request.visit, request.family
        bounds = self._reception.bounds
        content_type = visit.head.get(b"content-type", b"").lower()
        is_json = content_type.startswith(b"application/json") or not content_type
        length = check_head(visit.head, bounds.body if is_json or not family.upload else bounds.file)
        if is_json or not family.upload:
            body = await read_body(visit.receive, bounds.body)
            return *await self._json(request, body), None
        upload = Upload(stream_body(visit.receive, bounds.file), length)
        try:
            if family.at == 0 and content_type.startswith(b"multipart/form-data"):
                await upload.find_model(boundary_of(visit.head[b"content-type"]))
            lane = self._lane(request, upload.model)
        except BaseException:
            upload.close()
            raise
        return self._call(request, upload, {}, upload.model, stream=False), lane, upload

    async def _json(self, request: Request, body: bytes) -> tuple[Call, Lane]:
        payload: Any = {}
        if body:
            try:
                payload = orjson.loads(body)
            except orjson.JSONDecodeError:
                raise BadRequest("the body is not valid JSON", code="invalid_json") from None
            if not isinstance(payload, dict):
                raise BadRequest("the body must be a JSON object", code="invalid_json")
        provider = request.provider
        for one in references(payload):
            provider = await self._ownership.provider_of(one, request.visit.caller.team)
        model, stream = "", payload.get("stream") is True
        if "model" in payload:
            model = _RAW.read(body).model
        lane = self._lane(request._replace(provider=provider), model)
        return self._call(request, body, payload, model, stream=stream), lane

    def _lane(self, request: Request, model: str) -> Lane:
        snapshot, caller = request.visit.snapshot, request.visit.caller
        return snapshot.lane(caller, model) if model else snapshot.provider_lane(caller, request.provider)

    def _call(self, request: Request, body: Any, payload: Any, model: str, *, stream: bool) -> Call:
        visit = request.visit
        query = visit.scope["query_string"]
        path = "/" + "/".join(request.segments) + ("?" + query.decode("latin-1") if query else "")
        forward = [(name, visit.head[name]) for name in _FORWARDED if name in visit.head]
        return Call(
            request.family.label,
            "openai.raw",
            visit.scope["method"],
            path,
            body,
            payload,
            model,
            stream,
            forward,
        )

    async def _serve(self, request: Request, exchange: Exchange, lane: Lane) -> None:
        visit = request.visit

        async def deliver(reply: Reply) -> None:
            if request.is_list and reply.status == 200:
                reply.body = await self._own_page(request, exchange, lane, reply)
                reply.headers = [pair for pair in reply.headers if pair[0] != b"content-length"]
            elif not isinstance(reply.body, bytes):
                reply.body = self._noting_ids(request, exchange, reply, reply.body)
            await visit.writer.deliver(reply)
            if request.object_id and call_deletes(exchange.call) and reply.status < 300:
                await self._ownership.forget(request.object_id)

        await self._reception.serve(visit, exchange, lane, deliver)

    async def _noting_ids(
        self, request: Request, exchange: Exchange, reply: Reply, blocks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The answer, with every id it mints remembered before a byte of that id is passed on."""
        kind, team = request.family.label, exchange.caller.team
        provider = exchange.attempts[-1].target.provider
        if reply.keep_alive:
            async for block in blocks:
                if b'"id"' in block:
                    await self._ownership.remember(minted_in(block), team, provider, kind)
                yield block
            return
        if not _is_json(reply):
            async for block in blocks:
                yield block
            return
        held: bytearray | None = bytearray()
        async for block in blocks:
            if held is None:
                yield block
                continue
            held += block
            if (
                len(held) > LOOK
            ):  # an answer of that size mints no object: it is a file's or a result's content
                yield bytes(held)
                held = None
        if held is not None:
            await self._ownership.remember(minted(bytes(held)), team, provider, kind)
            yield bytes(held)

    async def _own_page(self, request: Request, exchange: Exchange, lane: Lane, reply: Reply) -> bytes:
        """A list with only the team's own objects, filled up from the provider's further pages."""
        page = orjson.loads(await whole(reply))
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            return orjson.dumps(page)
        wanted = _limit(request.visit.scope["query_string"])
        own: list[Any] = []
        for _ in range(MOST_PAGES):
            own += await self._ownership.own(page["data"], exchange.caller.team)
            last = page["data"][-1].get("id") if page["data"] else None
            if len(own) >= wanted or not page.get("has_more") or not last:
                break
            path = exchange.call.path.split("?")[0]
            exchange.call = exchange.call._replace(path=f"{path}?limit=100&after={last}")
            page = await self._next_page(exchange, lane)
        more = len(own) > wanted or bool(page.get("has_more"))
        own = own[:wanted]
        first_id, last_id = (own[0].get("id"), own[-1].get("id")) if own else (None, None)
        return orjson.dumps({**page, "data": own, "has_more": more, "first_id": first_id, "last_id": last_id})

    async def _next_page(self, exchange: Exchange, lane: Lane) -> dict[str, Any]:
        answered = await self._reception.pipeline.attempts.run(exchange, lane)
        try:
            body = answered.body or (await answered.answer.body(LOOK * 16) if answered.answer else b"")
            page = orjson.loads(body) if answered.status == 200 else {}
        finally:
            answered.close()
        return page if isinstance(page, dict) and isinstance(page.get("data"), list) else {"data": []}


NO_OUTPUT = Shape(choices=0)  # calls that name no size reserve no tokens


def call_deletes(call: Call) -> bool:
    return call.method == "DELETE"


async def whole(reply: Reply) -> bytes:
    if isinstance(reply.body, bytes):
        return reply.body
    return b"".join([block async for block in reply.body])


def _object_id(family: Family, segments: list[str]) -> str:
    """The id in this path, "" for none."""
    at = family.at
    if not at or len(segments) <= at or segments[at] in family.verbs:
        return ""
    return segments[at]


def _is_json(reply: Reply) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"application/json") for name, value in reply.headers
    )


def _limit(query: bytes) -> int:
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"limit" and value.isdigit():
            return max(1, min(int(value), 10_000))
    return 20


async def never(visit: Visit) -> None:
    """Administration of the provider's account, and what is not HTTP."""
    path = visit.scope["path"][:100]
    raise Forbidden(f"{path} is never served by this gateway", code="route_not_allowed")
