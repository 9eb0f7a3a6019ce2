"""Policies: which are in force, whether others would do, why a call goes where it goes."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.admin.papers import NewTexts, read, read_json
from gateway.config.explain import explain
from gateway.config.problem import BadPolicies, did_you_mean
from gateway.config.schema import GivenSpec
from gateway.core.failure import BadRequest
from gateway.core.key import KeyFacts


async def current(office: Backoffice, request: Request) -> Response:
    return JSONResponse(office.policies.describe())


async def check(office: Backoffice, request: Request) -> Response:
    asked = await read(request, NewTexts)
    try:
        version = await office.policies.try_texts(asked.files)
    except BadPolicies as bad:
        return JSONResponse({"ok": False, "problems": [str(problem) for problem in bad.problems]})
    return JSONResponse({"ok": True, "version": version, "problems": []})


async def explained(office: Backoffice, request: Request) -> Response:
    """Raises BadRequest for a caller that nobody is."""
    given = GivenSpec.model_validate(await read_json(request))
    snapshot = office.policies.snapshot
    if (given.key is None) == (given.team is None):
        raise BadRequest("takes a key or a team, one of the two", param="team")
    if given.team is not None and given.team not in snapshot.teams:
        hint = did_you_mean(given.team, snapshot.teams)
        raise BadRequest(f'there is no team "{given.team}"; {hint}', param="team")
    issued: list[KeyFacts] = []
    if given.key is not None and all(facts.name != given.key for facts in snapshot.keys.values()):
        if (facts := office.keys.named(given.key)) is None:
            raise BadRequest(f'there is no key "{given.key}"; GET /admin/v1/keys lists them', param="key")
        issued.append(facts)
    return JSONResponse(explain(snapshot, given, office.now(), issued))


async def reload(office: Backoffice, request: Request) -> Response:
    await office.policies.reload()
    office.audit("policies reloaded", office.policies.snapshot.version)
    return JSONResponse(office.policies.describe())
