"""Targets: how they are, and whether they may be called."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.admin.papers import Drained, read
from gateway.core.failure import NotFound


async def listed(office: Backoffice, request: Request) -> Response:
    return JSONResponse({"targets": await office.targets()})


async def drain(office: Backoffice, request: Request) -> Response:
    return await _set(office, request, on=True)


async def undrain(office: Backoffice, request: Request) -> Response:
    return await _set(office, request, on=False)


async def _set(office: Backoffice, request: Request, *, on: bool) -> Response:
    asked = await read(request, Drained)
    provider, _, model = asked.target.partition("/")
    if not model or provider not in office.desk.snapshot.tables.providers:
        raise NotFound(
            f'there is no target "{asked.target}"; it is PROVIDER/MODEL, as GET /admin/v1/targets lists them',
            code="target_not_found",
        )
    await office.drain(asked.target, on)
    office.audit("target drained" if on else "target undrained", asked.target)
    return JSONResponse({"target": asked.target, "drained": on})
