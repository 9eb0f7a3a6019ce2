"""Health and models: what is not hot on the data port, by Starlette."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.config.policies import Policies
from gateway.config.snapshot import Snapshot
from gateway.core.exchange import new_id
from gateway.core.failure import GatewayError, WrongMethod
from gateway.core.readiness import Readiness
from gateway.edge.asgi import Scope
from gateway.edge.catalog import dialect_of, listed, shown
from gateway.edge.reply import request_id_of
from gateway.edge.router import nowhere, unknown
from gateway.pipeline.identify import Identify
from gateway.wire.envelope import Envelope, gemini_method, render

Ready = Callable[[], Readiness]

_PRIVATE = {"cache-control": "private, no-store", "vary": "authorization"}


def starlette(
    policies: Policies, identify: Identify, ready: Ready, wall_clock: Callable[[], float]
) -> Starlette:
    """Routes without a limit or a provider behind them. Paths that nothing serves end in `nowhere`."""
    probes = _Probes(policies, identify, ready, wall_clock)
    routes = [
        Route("/health/live", probes.live),
        Route("/health/ready", probes.ready),
        *(Route(f"{version}/models", probes.models) for version in ("/v1", "/v1beta")),
        *(Route(f"{version}/models/{{name:path}}", probes.model) for version in ("/v1", "/v1beta")),
    ]
    app = Starlette(
        routes=routes, exception_handlers={GatewayError: probes.refused, 405: probes.wrong_method}
    )
    app.router.redirect_slashes = False
    app.router.default = nowhere
    return app


class _Probes:
    def __init__(
        self, policies: Policies, identify: Identify, ready: Ready, wall_clock: Callable[[], float]
    ) -> None:
        self._policies, self._identify, self._ready, self._now = policies, identify, ready, wall_clock

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        state = self._ready()
        return JSONResponse(state, 200 if state["status"] == "ready" else 503)

    async def models(self, request: Request) -> Response:
        snapshot = self._policies.snapshot
        caller = self._identify.caller(snapshot, request.scope["gateway.head"])
        return self._told(
            request, snapshot, listed(_dialect(request), snapshot, caller.team, request.query_params)
        )

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not name or gemini_method(request.scope["path"]):
            return await self.refused(request, unknown(request.scope))
        snapshot = self._policies.snapshot
        caller = self._identify.caller(snapshot, request.scope["gateway.head"])
        snapshot.lane(caller, name)
        return self._told(request, snapshot, shown(_dialect(request), snapshot, name))

    async def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        request_id = self._id_of(request)
        headers = {name.decode(): value.decode() for name, value in error.headers}
        headers |= {"x-request-id": request_id, **_PRIVATE}
        body = render(error, _dialect(request), request_id)
        return Response(body, error.status, headers, "application/json")

    async def wrong_method(self, request: Request, error: Exception) -> Response:
        return await self.refused(request, _untaken(request.scope))

    def _told(self, request: Request, snapshot: Snapshot, body: dict[str, Any]) -> Response:
        headers = {"x-request-id": self._id_of(request), "x-gateway-policies": snapshot.version, **_PRIVATE}
        return JSONResponse(body, headers=headers)

    def _id_of(self, request: Request) -> str:
        return request_id_of(request.scope["gateway.head"], new_id(self._now()))


def _untaken(scope: Scope) -> GatewayError:
    """Why a path that is read is not written to."""
    path: str = scope["path"]
    return unknown(scope) if gemini_method(path) else WrongMethod(path, scope["method"], ("GET", "HEAD"))


def _dialect(request: Request) -> Envelope:
    return dialect_of(request.scope["path"], request.headers)
