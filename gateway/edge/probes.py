"""Health and the list of models: what is not hot on the data port, by Starlette."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.config.desk import Desk
from gateway.core.exchange import new_id
from gateway.core.failure import GatewayError, WrongMethod
from gateway.edge.door import nowhere
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
        return _answer(request, snapshot.listed(caller.team))

    async def model(request: Request) -> Response:
        snapshot = desk.snapshot
        caller = identify.caller(snapshot, request.scope["gateway.head"])
        name = request.path_params["name"]
        snapshot.lane(caller, name)
        return JSONResponse(_openai(name), headers=_PRIVATE)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        request_id = request_id_of(request.scope["gateway.head"], new_id(wall_clock()))
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


def _answer(request: Request, names: list[str]) -> Response:
    if "anthropic-version" in request.headers:
        data = [_anthropic(name) for name in names]
        first, last = (names[0], names[-1]) if names else (None, None)
        body = {"data": data, "has_more": False, "first_id": first, "last_id": last}
    else:
        body = {"object": "list", "data": [_openai(name) for name in names]}
    return JSONResponse(body, headers=_PRIVATE)


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"}


def _anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
