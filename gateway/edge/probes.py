"""Health and models: what is not hot on the data port, by Starlette."""

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
from gateway.edge.asgi import Scope
from gateway.edge.catalog import dialect_of, listed, shown
from gateway.edge.door import nowhere, unknown
from gateway.edge.reply import request_id_of
from gateway.pipeline.identify import Identify
from gateway.wire.envelope import Envelope, gemini_method, render

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
        return told(request, snapshot, listed(_dialect(request), snapshot, caller.team, request.query_params))

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if not name or gemini_method(request.scope["path"]):
            return await refused(request, unknown(request.scope))
        snapshot = desk.snapshot
        caller = identify.caller(snapshot, request.scope["gateway.head"])
        snapshot.lane(caller, name)
        return told(request, snapshot, shown(_dialect(request), snapshot, name))

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
        body = render(error, _dialect(request), request_id)
        return Response(body, error.status, headers, "application/json")

    async def wrong_method(request: Request, error: Exception) -> Response:
        return await refused(request, _untaken(request.scope))

    routes = [
        Route("/health/live", live),
        Route("/health/ready", is_ready),
        *(Route(f"{version}/models", models) for version in ("/v1", "/v1beta")),
        *(Route(f"{version}/models/{{name:path}}", model) for version in ("/v1", "/v1beta")),
    ]
    app = Starlette(routes=routes, exception_handlers={GatewayError: refused, 405: wrong_method})
    app.router.redirect_slashes = False
    app.router.default = nowhere
    return app


def _untaken(scope: Scope) -> GatewayError:
    """Why a path that is read is not written to."""
    path: str = scope["path"]
    return unknown(scope) if gemini_method(path) else WrongMethod(path, scope["method"], ("GET", "HEAD"))


def _dialect(request: Request) -> Envelope:
    return dialect_of(request.scope["path"], request.headers)


_PRIVATE = {"cache-control": "private, no-store", "vary": "authorization"}
