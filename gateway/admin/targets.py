"""Targets: how they are, and whether they may be called."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.admin.papers import Drained, read
from gateway.config.problem import did_you_mean
from gateway.core.failure import NotFound


async def listed(office: Backoffice, request: Request) -> Response:
    return JSONResponse({"targets": await office.targets()})


async def drain(office: Backoffice, request: Request) -> Response:
    return await _set(office, request, on=True)


async def undrain(office: Backoffice, request: Request) -> Response:
    return await _set(office, request, on=False)


async def _set(office: Backoffice, request: Request, *, on: bool) -> Response:
    asked = await read(request, Drained)
    known = office.policies.snapshot.tables.targets()
    if asked.target not in known:  # one that the policies hold no longer is known while it is told
        known |= {row["target"] for row in await office.targets()}
    if asked.target not in known:
        hint = did_you_mean(asked.target, known)
        raise NotFound(
            f'there is no target "{asked.target}"; a target is written PROVIDER/MODEL, {hint}',
            code="target_not_found",
            param="target",
        )
    await office.drain(asked.target, on)
    office.audit("target drained" if on else "target undrained", asked.target)
    return JSONResponse({"target": asked.target, "drained": on})
