"""What stands in the lines of a batch file is asked for like any call: models and objects the team may use."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from gateway.config.snapshot import Team
from gateway.core.failure import BadRequest, Forbidden
from gateway.edge.other_models import check_other_models
from gateway.edge.ownership import Ownership
from gateway.edge.references import Reference, named, references
from gateway.wire.fields import refuse_crowd, refuse_names, refuse_spelled

MOST_LINE = 32 << 20  # bytes
_BODY = frozenset({"body"})
ANY = "\0"  # a name that only those may use who may use all


async def check_lines(pieces: AsyncIterator[bytes], team: Team, ownership: Ownership) -> None:
    """Raises Forbidden, NotFound or BadRequest that says which line is at fault."""
    number = 0
    async for lines in _lines(pieces):
        used: list[Reference] = []
        for line in lines:
            number += 1
            if line.strip():
                used += _check(line, team, number)
        await ownership.provider_of(used, team.name)
        await asyncio.sleep(0)  # a file of 200 MB must not keep other calls waiting


def _check(line: bytes, team: Team, number: int) -> list[Reference]:
    try:
        return _used(line, team)
    except (BadRequest, Forbidden) as error:
        message = f"line {number} of the batch file: {error.message}"
        raise type(error)(message, code=error.code, param=error.param) from None


def _used(line: bytes, team: Team) -> list[Reference]:
    """The objects that a line uses. Raises BadRequest, Forbidden."""
    refuse_crowd(line)
    try:
        call = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadRequest("it is not valid JSON", code="invalid_json") from None
    if not isinstance(call, dict):
        raise BadRequest("it is no JSON object", code="invalid_json")
    body = call.get("body")
    said = body if isinstance(body, dict) else {}
    refuse_spelled(call, _BODY)
    refuse_names(said)
    check_other_models(said, team)
    model = _model(said)
    for one in _models(line, model):
        if not team.models(one):
            raise Forbidden(f'team "{team.name}" may not use the model "{one[:100]}"', param="model")
    if model is None and not team.models(ANY):
        message = "it names no model, and this team uses some models only"
        raise BadRequest(message, code="missing_required_parameter", param="model")
    return references(line)


def _model(body: dict[str, Any]) -> str | None:
    model = body.get("model")
    return model if isinstance(model, str) else None


def _models(line: bytes, model: str | None) -> list[str]:
    """Every model a line names. The plain case is read by the fast parser: 200 MB are a second or two."""
    if line.count(b'"model"') > 1 or line.count(b'"body"') > 1 or b"\\u00" in line:
        return named(line, "model")
    return [] if model is None else [model]


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Whole lines, as many as a piece completes."""
    rest: list[bytes] = []
    size = 0
    async for piece in pieces:
        *lines, last = piece.split(b"\n")
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > MOST_LINE:
            raise BadRequest(f"a line of the batch file is longer than {MOST_LINE} bytes")
        if lines:
            yield lines
    yield [b"".join(rest)]
