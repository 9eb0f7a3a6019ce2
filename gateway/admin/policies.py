"""Policies: which are in force, whether others would do, why a call goes where it goes."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.admin.papers import NewTexts, read, read_json
from gateway.config.explain import explain
from gateway.config.problem import BadPolicies
from gateway.config.schema import GivenSpec


async def current(office: Backoffice, request: Request) -> Response:
    return JSONResponse(office.desk.describe())


async def check(office: Backoffice, request: Request) -> Response:
    asked = await read(request, NewTexts)
    try:
        version = await office.desk.try_texts(asked.files)
    except BadPolicies as bad:
        return JSONResponse({"ok": False, "problems": [str(problem) for problem in bad.problems]})
    return JSONResponse({"ok": True, "version": version, "problems": []})


async def explained(office: Backoffice, request: Request) -> Response:
    given = GivenSpec.model_validate(await read_json(request))
    return JSONResponse(explain(office.desk.snapshot, given, office.now()))


async def reload(office: Backoffice, request: Request) -> Response:
    await office.desk.reload()
    office.audit("policies reloaded", office.desk.snapshot.version)
    return JSONResponse(office.desk.describe())
