"""Targets: how they are, and whether they may be called."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.admin.papers import Drained, read


async def listed(office: Backoffice, request: Request) -> Response:
    return JSONResponse({"targets": await office.targets()})


async def drain(office: Backoffice, request: Request) -> Response:
    return await _set(office, request, on=True)


async def undrain(office: Backoffice, request: Request) -> Response:
    return await _set(office, request, on=False)


async def _set(office: Backoffice, request: Request, *, on: bool) -> Response:
    asked = await read(request, Drained)
    await office.drain(asked.target, on)
    office.audit("target drained" if on else "target undrained", asked.target)
    return JSONResponse({"target": asked.target, "drained": on})
