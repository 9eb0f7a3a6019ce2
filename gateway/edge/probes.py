"""Health and the list of models: what is not hot on the data port, by Starlette."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.config.desk import Desk
from gateway.config.snapshot import Snapshot
from gateway.core.exchange import new_id
from gateway.core.failure import GatewayError, WrongMethod
from gateway.edge.door import nowhere, unknown
from gateway.edge.reply import request_id_of
from gateway.pipeline.identify import Identify
from gateway.wire.envelope import envelope_of, gemini_method, render

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
        body = render(error, envelope_of(request.scope["path"]), request_id)
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


def _list(request: Request, names: list[str]) -> dict[str, Any]:
    shape = _shape(request)
    data = [shape(name) for name in names]
    if shape is _openai:
        return {"object": "list", "data": data}
    first, last = (names[0], names[-1]) if names else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}


def _shape(request: Request) -> Callable[[str], dict[str, Any]]:
    """A model in the dialect of whoever asks."""
    return _anthropic if "anthropic-version" in request.headers else _openai


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"}


def _anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
