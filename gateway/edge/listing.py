"""A provider's list, cut down to what one team may see, and filled up from the provider's further pages."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from gateway.core.exchange import Reply
from gateway.core.failure import BadRequest, Failure, UpstreamFailed
from gateway.edge.ownership import Ownership
from gateway.edge.references import Reference

MOST_PAGES = 20  # of the provider's, read for one page of a team's own objects
PAGE = 100  # objects per further page: the most that OpenAI gives of every kind
MOST_PAGE = 16 << 20  # bytes
DEFAULT_LIMIT = 20

Fetch = Callable[[str], Awaitable[bytes]]


class Query:
    """The query of a list: asked for so many, after or before an object."""

    def __init__(self, raw: bytes) -> None:
        """Raises BadRequest for what two readers would read as two things."""
        self._pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        names = [name for name, _ in self._pairs]
        for name in ("limit", "after", "before"):
            if names.count(name) > 1:
                raise BadRequest(f"'{name}' stands twice in the query", code="duplicate_field", param=name)
        named = dict(self._pairs)
        limit = named.get("limit", "")
        digits = limit[:9] if limit.isascii() and limit.isdigit() else "0"  # Python reads no number of 5,000
        self.limit = min(int(digits), 10_000) or None
        self.cursors = [Reference(named[name]) for name in ("after", "before") if named.get(name)]
        self._cursor = "before" if named.get("before") and not named.get("after") else "after"

    def further(self, page: dict[str, Any]) -> str:
        """The query of the page that follows, in the direction asked."""
        kept = [pair for pair in self._pairs if pair[0] not in ("limit", self._cursor)]
        ends = page["data"][0 if self._cursor == "before" else -1]
        return urlencode(
            [*kept, ("limit", str(PAGE)), (self._cursor, str(ends.get("id")))], encoding="latin-1"
        )


async def own_page(reply: Reply, query: Query, ownership: Ownership, team: str, fetch: Fetch) -> bytes:
    """The page's own bytes where all of it is the team's, else a page of what is."""
    body = await whole(reply)
    page = first = read_page(body)
    own = await ownership.own(page["data"], team)
    if len(own) == len(page["data"]) and (own or not page.get("has_more")):
        return body
    wanted = query.limit or DEFAULT_LIMIT
    for _ in range(MOST_PAGES):
        if len(own) >= wanted or not page.get("has_more") or not page["data"]:
            break
        page = read_page(await fetch(query.further(page)))
        own += await ownership.own(page["data"], team)
    more = len(own) > wanted or bool(page.get("has_more"))
    own = own[:wanted]
    ends = (
        {"first_id": own[0]["id"], "last_id": own[-1]["id"]} if own else {"first_id": None, "last_id": None}
    )
    kept = {name: value for name, value in ends.items() if name in first}
    return orjson.dumps({**first, "data": own, **kept, **({"has_more": more} if "has_more" in first else {})})


def read_page(body: bytes) -> dict[str, Any]:
    """Raises UpstreamFailed for what is no list: what cannot be filtered is not shown."""
    try:
        page = orjson.loads(body)
    except orjson.JSONDecodeError:
        page = None
    if not isinstance(page, dict) or not isinstance(page.get("data"), list):
        raise UpstreamFailed("the provider's list is none that can be filtered", Failure.BROKEN)
    return page


async def whole(reply: Reply) -> bytes:
    """Raises UpstreamFailed past the bound."""
    if isinstance(reply.body, bytes):
        return reply.body
    parts, size = [], 0
    async for part in reply.body:
        size += len(part)
        if size > MOST_PAGE:
            raise UpstreamFailed(f"the provider's list is larger than {MOST_PAGE} bytes", Failure.BROKEN)
        parts.append(part)
    return b"".join(parts)
