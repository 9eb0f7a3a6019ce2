"""The admin port: one table in which every route declares the role it takes; default is to refuse."""

import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin import keys, policies, targets, usage
from gateway.admin.base import Backoffice
from gateway.core.failure import BadRequest, DatabaseAway, Forbidden, GatewayError, NotFound, Unauthorized
from gateway.state.fault import DatabaseFault
from gateway.telemetry.prometheus import CONTENT_TYPE
from gateway.wire.envelope import render

Role = Literal["open", "metrics", "admin"]
Handler = Callable[[Backoffice, Request], Awaitable[Response]]

_LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")  # the last by a socket that takes IPv4 and IPv6
# What this machine is asked by: another name may be one that a page's owner points here ("DNS rebinding").
_OURS = re.compile(r"(?:localhost|[0-9.]+|\[[0-9a-f:.]+\])?(?::[0-9]+)?", re.IGNORECASE)
_HEADERS = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}


class Entry(NamedTuple):
    method: str
    path: str
    role: Role
    handler: Handler


async def _live(office: Backoffice, request: Request) -> Response:
    return JSONResponse({"status": "live"})


async def _ready(office: Backoffice, request: Request) -> Response:
    state = office.ready()
    return JSONResponse(state, 200 if state["status"] == "ready" else 503)


async def _metrics(office: Backoffice, request: Request) -> Response:
    return Response(await office.metrics(), media_type=None, headers={"content-type": CONTENT_TYPE})


async def _index(office: Backoffice, request: Request) -> Response:
    rows = "".join(f"<li><code>{entry.method} {entry.path}</code></li>" for entry in TABLE)
    page = f"<!doctype html><title>Gatehouse</title><h1>Gatehouse, admin side</h1><ul>{rows}</ul>"
    return Response(page, media_type="text/html", headers={"content-security-policy": "default-src 'none'"})


TABLE: list[Entry] = [
    Entry("GET", "/", "open", _index),
    Entry("GET", "/health/live", "open", _live),
    Entry("GET", "/health/ready", "open", _ready),
    Entry("GET", "/metrics", "metrics", _metrics),
    Entry("GET", "/admin/v1/keys", "admin", keys.listed),
    Entry("POST", "/admin/v1/keys", "admin", keys.create),
    Entry("DELETE", "/admin/v1/keys/{name}", "admin", keys.revoke),
    Entry("POST", "/admin/v1/keys/{name}/rotate", "admin", keys.rotate),
    Entry("GET", "/admin/v1/teams", "admin", keys.teams),
    Entry("GET", "/admin/v1/usage", "admin", usage.report),
    Entry("GET", "/admin/v1/targets", "admin", targets.listed),
    Entry("POST", "/admin/v1/targets/drain", "admin", targets.drain),
    Entry("POST", "/admin/v1/targets/undrain", "admin", targets.undrain),
    Entry("GET", "/admin/v1/policies", "admin", policies.current),
    Entry("POST", "/admin/v1/policies/check", "admin", policies.check),
    Entry("POST", "/admin/v1/policies/explain", "admin", policies.explained),
    Entry("POST", "/admin/v1/policies/reload", "admin", policies.reload),
]


def application(office: Backoffice) -> Starlette:
    """The ASGI application of the admin port; the builder wraps it in the sanity layer."""
    routes = [Route(entry.path, _guarded(office, entry), methods=[entry.method]) for entry in TABLE]
    app = Starlette(
        routes=routes,
        exception_handlers={
            GatewayError: _refused,
            404: _nowhere,
            405: _nowhere,
            ValidationError: _invalid,
            DatabaseFault: _unkept,
            Exception: _broken,
        },
    )
    app.router.redirect_slashes = False
    return app


def _guarded(office: Backoffice, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        _authorize(office, entry.role, request)
        response = await entry.handler(office, request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return endpoint


def _authorize(office: Backoffice, role: Role, request: Request) -> None:
    """Raises Unauthorized or Forbidden. Tokens are compared in constant time. Metrics take none from this machine: a
    collector may send what it has for others."""
    if role == "open" or (role == "metrics" and _is_local(request)):
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    presented = token.strip() if scheme.lower() == "bearer" else ""
    is_admin = hmac.compare_digest(presented.encode(), office.admin_token.encode()) and bool(presented)
    if is_admin:
        return
    is_reader = bool(office.metrics_token) and hmac.compare_digest(
        presented.encode(), office.metrics_token.encode()
    )
    if is_reader:
        if role == "metrics":
            return
        raise Forbidden("the metrics token reads /metrics and nothing else", code="role_not_allowed")
    office.audit("refused", f"{request.method} {request.url.path}")
    if not presented:
        raise Unauthorized(
            "send the admin token as 'Authorization: Bearer TOKEN'", code="missing_admin_token"
        )
    raise Unauthorized("this admin token is not valid", code="invalid_admin_token")


def _is_local(request: Request) -> bool:
    """Whether it comes from this machine, and from no page that a browser here has open."""
    client = request.client
    return (
        client is not None
        and client.host in _LOOPBACK
        and _OURS.fullmatch(request.headers.get("host", "")) is not None
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(render(error), error.status, {**headers, **_HEADERS}, "application/json")


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return await _refused(request, BadRequest(f"{where}: {said}", param=where or None))


async def _unkept(request: Request, error: Exception) -> Response:
    return await _refused(request, DatabaseAway(str(error)))


async def _broken(request: Request, error: Exception) -> Response:
    return await _refused(request, GatewayError("something broke inside the gateway; its log says what"))


async def _nowhere(request: Request, error: Exception) -> Response:
    return await _refused(
        request, NotFound(f"there is no {request.method} {request.url.path}", code="route_not_found")
    )
