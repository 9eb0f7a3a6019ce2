"""Health and the list of models: what is not hot on the data port, by Starlette."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.config.desk import Desk
from gateway.config.snapshot import Snapshot
from gateway.core.exchange import new_id
from gateway.core.failure import BadRequest, GatewayError, WrongMethod
from gateway.edge.door import nowhere, unknown
from gateway.edge.reply import request_id_of
from gateway.pipeline.identify import Identify
from gateway.wire.envelope import Envelope, envelope_of, gemini_method, render

Ready = Callable[[], dict[str, Any]]


def starlette(desk: Desk, identify: Identify, ready: Ready, wall_clock: Callable[[], float]) -> Starlette:
    """Routes without a limit or a provider behind them. Paths that nothing serves end in `nowhere`."""

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def is_ready(request: Request) -> Response:
        state = ready()
        return JSONResponse(state, 200 if state["status"] == "ready" else 503)

    async def models(request: Request) -> Response:
        snapshot = desk.snapshot
        caller = identify.caller(snapshot, request.scope["gateway.head"])
        return told(request, snapshot, _list(request, snapshot.listed(caller.team)))

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if not name:
            return await refused(request, unknown(request.scope))
        snapshot = desk.snapshot
        caller = identify.caller(snapshot, request.scope["gateway.head"])
        snapshot.lane(caller, name)
        return told(request, snapshot, _shape(request)(name))

    def told(request: Request, snapshot: Snapshot, body: dict[str, Any]) -> Response:
        headers = {"x-request-id": id_of(request), "x-gateway-policies": snapshot.version, **_PRIVATE}
        return JSONResponse(body, headers=headers)

    def id_of(request: Request) -> str:
        return request_id_of(request.scope["gateway.head"], new_id(wall_clock()))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        request_id = id_of(request)
        headers = {name.decode(): value.decode() for name, value in error.headers}
        headers |= {"x-request-id": request_id, **_PRIVATE}
        envelope: Envelope = "anthropic" if _is_of_claude(request) else envelope_of(request.scope["path"])
        body = render(error, envelope, request_id)
        return Response(body, error.status, headers, "application/json")

    async def wrong_method(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        taken = ("GET", "HEAD", "POST") if gemini_method(path) else ("GET", "HEAD")
        return await refused(request, WrongMethod(path, request.method, taken))

    routes = [
        Route("/health/live", live),
        Route("/health/ready", is_ready),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
    ]
    app = Starlette(routes=routes, exception_handlers={GatewayError: refused, 405: wrong_method})
    app.router.redirect_slashes = False
    app.router.default = nowhere
    return app


_PRIVATE = {"cache-control": "private, no-store", "vary": "authorization"}
_LIMIT = re.compile("[1-9][0-9]{0,2}|1000")  # of a page, as Anthropic's API has it


def _list(request: Request, names: list[str]) -> dict[str, Any]:
    if not _is_of_claude(request):
        return {"object": "list", "data": [_openai(name) for name in names]}
    found, more = _page(request, names)
    first, last = (found[0], found[-1]) if found else (None, None)
    return {
        "data": [_anthropic(name) for name in found],
        "has_more": more,
        "first_id": first,
        "last_id": last,
    }


def _page(request: Request, names: list[str]) -> tuple[list[str], bool]:
    """The names of one page, and whether there are more that way. The names are sorted, so that a page also goes on
    from one that has left the policies meanwhile. Raises BadRequest."""
    asked = request.query_params
    limit, after, before = asked.get("limit") or "20", asked.get("after_id", ""), asked.get("before_id", "")
    if not _LIMIT.fullmatch(limit):
        raise BadRequest("'limit' must be from 1 to 1000", code="invalid_value", param="limit")
    if after and before:
        message = "a page is after one model or before one: send 'after_id' or 'before_id'"
        raise BadRequest(message, code="invalid_value", param="before_id")
    if before:
        left = names[: bisect_left(names, before)]
        found = left[-int(limit) :]
    else:
        left = names[bisect_right(names, after) :]
        found = left[: int(limit)]
    return found, len(left) > len(found)


def _shape(request: Request) -> Callable[[str], dict[str, Any]]:
    """A model in the dialect of whoever asks."""
    return _anthropic if _is_of_claude(request) else _openai


def _is_of_claude(request: Request) -> bool:
    """Whether one of Anthropic's SDKs asks for models: both APIs have them under the same path."""
    path: str = request.scope["path"]
    return "anthropic-version" in request.headers and (path + "/").startswith("/v1/models/")


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"}


def _anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
