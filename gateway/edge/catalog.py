"""The models that a key may use, in the dialect of whoever asks for them."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from gateway.config.snapshot import Snapshot
from gateway.core.failure import BadRequest
from gateway.edge.models import METHODS
from gateway.providers.registry import serves
from gateway.wire.envelope import Envelope, envelope_of

Json = dict[str, Any]

_LIMIT = re.compile("[1-9][0-9]{0,2}|1000")  # of a page, as Anthropic's API has it
_SIZE = re.compile("[0-9]{1,9}")
# Of a page of Google's that says none, and the most that one has, whatever it says (ai.google.dev/api/models).
_USUAL_SIZE, _MOST_SIZE = 50, 1000


def dialect_of(path: str, headers: Mapping[str, str]) -> Envelope:
    """Three APIs have models under `/v1/models`: there Anthropic's clients are known by their version, and Google's by
    a key in its header alone, as OpenAI's all send a bearer. Elsewhere the path decides."""
    if (path + "/").startswith("/v1/models/"):
        if "anthropic-version" in headers:
            return "anthropic"
        if "x-goog-api-key" in headers and "authorization" not in headers:
            return "gemini"
    return envelope_of(path)


def listed(dialect: Envelope, snapshot: Snapshot, team: str, asked: Mapping[str, str]) -> Json:
    """One page of what a team may use, by what the query `asked`; OpenAI's list has no pages. Raises BadRequest."""
    names = snapshot.listed(team)
    if dialect == "anthropic":
        found, more = _page(names, asked)
        ends = {"first_id": found[0] if found else None, "last_id": found[-1] if found else None}
        return {"data": [_anthropic(one) for one in found], "has_more": more, **ends}
    if dialect == "gemini":
        found, token = _page_of_google(names, asked)
        page: Json = {"models": [_gemini(snapshot, one) for one in found]}
        return page | ({"nextPageToken": token} if token else {})
    return {"object": "list", "data": [_openai(one) for one in names]}


def shown(dialect: Envelope, snapshot: Snapshot, name: str) -> Json:
    """One model that there is."""
    if dialect == "gemini":
        return _gemini(snapshot, name)
    tell: Callable[[str], Json] = _anthropic if dialect == "anthropic" else _openai
    return tell(name)


# The names are sorted, so that a page also goes on from one that has left the policies meanwhile.


def _page(names: list[str], asked: Mapping[str, str]) -> tuple[list[str], bool]:
    """The names of one page, and whether there are more that way. Raises BadRequest."""
    limit, after, before = asked.get("limit") or "20", asked.get("after_id", ""), asked.get("before_id", "")
    if not _LIMIT.fullmatch(limit):
        raise BadRequest("'limit' must be from 1 to 1000", code="invalid_value", param="limit")
    if after and before:
        message = "a page is after one model or before one: send 'after_id' or 'before_id'"
        raise BadRequest(message, code="invalid_value", param="before_id")
    if before:
        left = names[: bisect_left(names, before)]
        found = left[-int(limit) :]
    else:
        left = names[bisect_right(names, after) :]
        found = left[: int(limit)]
    return found, len(left) > len(found)


def _page_of_google(names: list[str], asked: Mapping[str, str]) -> tuple[list[str], str]:
    """The names of one page, and the token of the next: the last name, "" behind which there is none. Raises
    BadRequest."""
    size = asked.get("pageSize") or "0"
    if not _SIZE.fullmatch(size):
        raise BadRequest("'pageSize' must be a whole number", code="invalid_value", param="pageSize")
    left = names[bisect_right(names, asked.get("pageToken", "")) :]
    found = left[: min(int(size) or _USUAL_SIZE, _MOST_SIZE)]
    return found, found[-1] if len(left) > len(found) else ""


def _openai(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"}


def _anthropic(name: str) -> Json:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _gemini(snapshot: Snapshot, name: str) -> Json:
    """With the methods that one of its targets has an endpoint for: not every model answers to all of them."""
    found = snapshot.find(name)
    targets = found.targets if found is not None else ()
    methods = [
        method for method, of in METHODS.items() if any(serves(of.dialect, name, one) for one in targets)
    ]
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
