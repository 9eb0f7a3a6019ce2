"""`GET /admin/v1/usage?by=team,model&since=24h`: what was used, from the ledger."""

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.admin.base import Backoffice
from gateway.core.failure import BadRequest

_SPAN = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


async def report(office: Backoffice, request: Request) -> Response:
    """Raises BadRequest for what cannot be asked."""
    for name in request.query_params:
        if name not in ("by", "since"):
            raise BadRequest(f'there is no parameter "{name}"; there is by and since', param=name)
    by = [name for name in dict.fromkeys(request.query_params.get("by", "").split(",")) if name]
    since = _since(request.query_params.get("since", ""), office.now())
    try:
        return JSONResponse(await office.usage(by, since))
    except ValueError as error:
        raise BadRequest(str(error), param="by") from None


def _since(text: str, now: float) -> float:
    if not text:
        return 0.0
    match = _SPAN.fullmatch(text)
    if match is None:
        raise BadRequest("since must be a span such as 30m, 24h or 7d", param="since")
    return now - int(match[1]) * _SECONDS[match[2]]
