"""Keys and teams. A new key is shown in the one answer that makes it."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.admin.papers import NewKey, read
from gateway.core.failure import BadRequest, Conflict, GatewayError, NotFound


async def listed(office: Backoffice, request: Request) -> Response:
    issued = [{**row, "source": "issued"} for row in await office.keys.listed()]
    written = [
        {
            "name": facts.name,
            "team": facts.team,
            "expires": facts.expires,
            "revoked": False,
            "source": "policies",
        }
        for facts in office.policies.snapshot.keys.values()
    ]
    return JSONResponse({"keys": issued + written})


async def create(office: Backoffice, request: Request) -> Response:
    asked = await read(request, NewKey)
    snapshot = office.policies.snapshot
    if asked.team not in snapshot.teams:
        raise BadRequest(f'there is no team "{asked.team}"; add it to the access policies', param="team")
    if _is_written(office, asked.name):
        raise Conflict(f'a key named "{asked.name}" stands in the policies', param="name")
    if asked.expires is not None and asked.expires <= office.now():
        raise BadRequest("lies in the past; take a day to come, or leave it out", param="expires")
    try:
        ident, key = await office.keys.create(asked.name, asked.team, asked.expires)
    except ValueError as error:
        raise Conflict(str(error), param="name") from None
    office.audit("key created", asked.name)
    return JSONResponse({"id": ident, "key": key, "name": asked.name, "team": asked.team}, 201)


async def revoke(office: Backoffice, request: Request) -> Response:
    name = request.path_params["name"]
    try:
        await office.keys.revoke(name)
    except LookupError as error:
        raise _not_issued(office, name, error) from None
    office.audit("key revoked", name)
    return JSONResponse({"name": name, "revoked": True})


async def rotate(office: Backoffice, request: Request) -> Response:
    name = request.path_params["name"]
    try:
        ident, key = await office.keys.rotate(name)
    except LookupError as error:
        raise _not_issued(office, name, error) from None
    except ValueError as error:
        raise Conflict(str(error), param="name") from None
    office.audit("key rotated", name)
    return JSONResponse({"id": ident, "key": key, "name": name})


def _not_issued(office: Backoffice, name: str, error: LookupError) -> GatewayError:
    """Whoever must end a key in a hurry is told where it stands."""
    if _is_written(office, name):
        return Conflict(f'the key "{name}" stands in the policies; change it there', param="name")
    return NotFound(str(error.args[0]), code="key_not_found")


def _is_written(office: Backoffice, name: str) -> bool:
    """Whether the policies have a key of that name."""
    return any(facts.name == name for facts in office.policies.snapshot.keys.values())


async def teams(office: Backoffice, request: Request) -> Response:
    snapshot = office.policies.snapshot
    rows = [
        {
            "name": team.name,
            "models": snapshot.listed(team.name),
            "max_output_tokens": team.max_output_tokens,
            "passthrough": sorted(team.passthrough),
        }
        for team in snapshot.teams.values()
    ]
    return JSONResponse({"teams": rows})
