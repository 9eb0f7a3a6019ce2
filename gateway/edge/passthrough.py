"""Endpoints that pass through: the same auth, limits and accounting, and ids that only their team may use."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Reply, Shape, Upload, new_id
from gateway.core.failure import BadRequest, Failure, Forbidden, UnsupportedEncoding, UpstreamFailed
from gateway.core.usage import Usage
from gateway.edge.batches import ANY, check_lines
from gateway.edge.body import check_head, stream_body
from gateway.edge.endpoints import RUNS, SEGMENT, Family, Place, check_method, check_open, place_of
from gateway.edge.evaluations import GRADED, check_graded
from gateway.edge.forms import held, other_models_of, references_of
from gateway.edge.inference import forwarded
from gateway.edge.listing import MOST_PAGE, Query, own_page
from gateway.edge.multipart import Field, Held, MultipartUpload, Part, Scanner, boundary_of
from gateway.edge.noting import noted, settled
from gateway.edge.other_models import check_other_models
from gateway.edge.ownership import Ownership, held_by
from gateway.edge.query import query_of, with_query
from gateway.edge.reception import Reception, Visit
from gateway.edge.references import Reference, named, references
from gateway.wire.fields import parse_object, refuse_names, refuse_twice
from gateway.wire.raw import ONCE, Raw, bound_of

NO_OUTPUT = Shape(choices=0)
_FORWARDED = (b"content-type", b"accept")
_RAW = Raw()
_MULTIPART = b"multipart/form-data"


class Request(NamedTuple):
    """What is known of a request before its body is read. `provider` made the object that is named."""

    visit: Visit
    place: Place
    method: str
    query: Query | None
    provider: str | None

    @property
    def team(self) -> str:
        return self.visit.caller.team


class Passthrough:
    """Handles one family of paths."""

    def __init__(self, reception: Reception, ownership: Ownership, family: Family) -> None:
        self._reception, self._ownership, self._family = reception, ownership, family

    async def __call__(self, visit: Visit) -> None:
        request = await self._check(visit)
        lane, call = await self._read(request)
        if self._family.label == "batches" and request.place.is_collection and request.query is None:
            await self._check_batch(request, lane, call)
        try:
            exchange = self._reception.exchange(visit, call)
            exchange.shape = self._shape(request, call)
            await self._serve(request, exchange, lane)
        finally:
            if isinstance(call.body, MultipartUpload):
                call.body.close()

    async def _check(self, visit: Visit) -> Request:
        """Everything the request's head can be refused for."""
        family, method = self._family, visit.scope["method"]
        team = visit.snapshot.teams[visit.caller.team]
        check_open(family, team.name, team.passthrough)
        place = place_of(family, visit.scope["path"])
        check_method(place, method)
        if visit.head.get(b"upgrade", b"").lower() == b"websocket":
            raise BadRequest(
                "WebSockets are served at /v1/responses alone; use HTTP here", code="websocket_not_supported"
            )
        lists = place.is_collection and method == "GET"
        query = Query(query_of(visit.scope)) if lists else None
        used = [Reference(place.object_id)] if place.object_id else query.cursors if query else []
        return Request(visit, place, method, query, await self._ownership.provider_of(used, team.name))

    async def _read(self, request: Request) -> tuple[Lane, Call]:
        family = self._family
        kind = request.visit.head.get(b"content-type", b"").split(b";")[0].strip().lower()
        may_stream = family.upload and request.method in ("POST", "PUT", "PATCH")
        if not may_stream or kind in (b"", b"application/json"):
            return await self._json(request, await self._reception.read(request.visit))
        if kind != _MULTIPART:  # what cannot be read here could name anything there
            raise UnsupportedEncoding(
                f"/v1/{family.label} takes application/json and multipart/form-data",
                code="unsupported_media_type",
            )
        upload = self._upload(request)
        try:
            if family.named:
                await upload.find_model()
            return self._lane(request, upload.model), self._call(request, upload, {}, upload.model)
        except BaseException:
            upload.close()
            raise

    def _upload(self, request: Request) -> MultipartUpload:
        visit, most = request.visit, self._reception.bounds.file
        length = check_head(visit.head, most)
        scanner = Scanner(boundary_of(visit.head[b"content-type"]), self._holds)

        async def judge(field: Field) -> None:
            await self._ownership.provider_of(references_of(field), request.team)
            check_other_models(other_models_of(field), visit.snapshot.teams[request.team])

        hold = partial(self._reception.hold, visit)
        return MultipartUpload(stream_body(visit.receive, most), length, scanner, judge, hold)

    def _holds(self, part: Part) -> Held:
        return held(part, named=self._family.named)

    async def _json(self, request: Request, body: bytes) -> tuple[Lane, Call]:
        payload = parse_object(body) if body else {}
        refuse_twice(body, payload, ONCE)
        refuse_names(payload)
        team = request.visit.snapshot.teams[request.team]
        check_other_models(payload, team)
        if body and self._family.label in GRADED:
            check_graded(body, team)
        model, stream = "", payload.get("stream") is True
        if "model" in payload:
            _, model, stream = _RAW.read(body)
        used = references(body)
        if request.place.object_id:
            used.append(Reference(request.place.object_id))
        provider = await self._ownership.provider_of(used, request.team)
        lane = self._lane(request._replace(provider=provider or request.provider), model)
        return lane, self._call(request, body, payload, model, stream=stream)

    async def _check_batch(self, request: Request, lane: Lane, batch: Call) -> None:
        """Read the batch's file at the provider, as a call of its own: only there is all of it at hand."""
        assert isinstance(batch.body, bytes)
        files = named(batch.body, "input_file_id")
        if len(files) != 1 or not SEGMENT.fullmatch(files[0]):
            raise BadRequest(
                "'input_file_id' must name one file", code="invalid_value", param="input_file_id"
            )
        visit = replace(request.visit, id=new_id(self._reception.now()))
        call = Call("files", _RAW.name, "GET", f"/files/{files[0]}/content", b"", {}, "", stream=False)
        exchange = self._reception.exchange(visit, call)
        exchange.shape = NO_OUTPUT
        team = visit.snapshot.teams[visit.caller.team]

        async def deliver(reply: Reply) -> None:
            if isinstance(reply.body, bytes):
                raise UpstreamFailed(f"the batch's file could not be read: {reply.status}", Failure.REJECTED)
            await check_lines(reply.body, team, self._ownership)

        await self._reception.serve(visit, exchange, lane, deliver)

    def _lane(self, request: Request, model: str) -> Lane:
        """The model's lane, or that of the provider that has the objects; of both, where both are named."""
        snapshot, caller, provider = request.visit.snapshot, request.visit.caller, request.provider
        if not model:
            if self._runs(request) and not snapshot.teams[caller.team].models(ANY):
                raise BadRequest(
                    "'model' is missing; this team uses some models only, and may not leave the choice to the provider",
                    code="missing_required_parameter",
                    param="model",
                )
            return snapshot.provider_lane(caller, provider)
        return held_by(snapshot.lane(caller, model), provider)

    def _runs(self, request: Request) -> bool:
        return self._family.label in RUNS and request.method == "POST" and not request.place.object_id

    def _shape(self, request: Request, call: Call) -> Shape:
        """Calls that are only about objects reserve no tokens, for nothing is computed; nor do those that no provider
        meters."""
        metered = self._computes(request, call) and self._family.label != "moderations"
        if not isinstance(call.body, bytes) or not metered:
            return NO_OUTPUT
        return _RAW.shape(call.payload, len(call.body), bound_of(call) or "max_output_tokens")

    def _computes(self, request: Request, call: Call) -> bool:
        return bool(call.model or bound_of(call) or self._runs(request))

    def _call(
        self,
        request: Request,
        body: bytes | Upload,
        payload: Mapping[str, Any],
        model: str,
        *,
        stream: bool = False,
    ) -> Call:
        visit = request.visit
        path = with_query("/" + "/".join(request.place.segments), visit.scope)
        head: Mapping[bytes, bytes] = visit.head
        if body and isinstance(body, bytes):  # by another name the provider might read other ids in it
            head = {**head, b"content-type": b"application/json"}
        forward = [(name, head[name]) for name in _FORWARDED if name in head]
        forward += forwarded(visit.head, request.team)
        label = self._family.label
        return Call(label, _RAW.name, request.method, path, body, payload, model, stream, forward)

    async def _serve(self, request: Request, exchange: Exchange, lane: Lane) -> None:
        ownership, place = self._ownership, request.place

        async def settle() -> None:
            """What is told again was charged when it was made, and what was only begun then is charged the rest now."""
            told, exchange.usage = exchange.usage, Usage()
            charged = await ownership.settle(told_of(place))
            if charged is not None:
                exchange.usage = told.beyond(charged)

        async def deliver(reply: Reply) -> None:
            if request.query is not None and reply.status == 200:
                await self._list(request, exchange, lane, reply)
            if mints(request, exchange.call):
                nested = request.query is not None or (bool(place.object_id) and not place.is_object)
                reply = await noted(reply, ownership, exchange, nested=nested)
            elif request.method == "DELETE" and place.is_object and reply.status < 300:
                await ownership.forget(place.object_id)
            if not self._computes(request, exchange.call):
                reply = await settled(reply, exchange, settle)
            await request.visit.writer.deliver(reply)

        await self._reception.serve(request.visit, exchange, lane, deliver)

    async def _list(self, request: Request, exchange: Exchange, lane: Lane, reply: Reply) -> None:
        assert request.query is not None
        path = exchange.call.path.split("?")[0]

        async def fetch(query: str) -> bytes:
            exchange.call = replace(exchange.call, path=f"{path}?{query}")
            answered = await self._reception.pipeline.attempts.run(exchange, lane)
            try:
                if answered.status != 200 or answered.answer is None:
                    raise UpstreamFailed(f"a page of the list was a {answered.status}", Failure.BROKEN)
                return await answered.answer.body(MOST_PAGE)
            finally:
                answered.close()

        reply.body = await own_page(reply, request.query, self._ownership, request.team, fetch)
        reply.headers = [pair for pair in reply.headers if pair[0] != b"content-length"]


def mints(request: Request, call: Call) -> bool:
    """Whether ids of the answer are to be learned: not from contents, which are the client's own words, nor
    where the client wants nothing kept."""
    said = request.place.segments[-1] in ("content", "input_items") and not request.place.is_object
    return not said and request.method not in ("HEAD", "DELETE") and call.payload.get("store") is not False


def told_of(place: Place) -> tuple[str, ...]:
    """Among these is the id of what an answer tells the usage of: it ends the path, or an action on it does. What a
    step took is in what its run tells."""
    return () if "steps" in place.segments else place.segments[-2:]


async def never(visit: Visit) -> None:
    """Administration of the provider's account, and what is not HTTP. Raises Forbidden."""
    path = visit.scope["path"][:100]
    raise Forbidden(f"{path} is never served by this gateway", code="route_not_allowed")
