"""From a line of the spool to a row of the ledger, if it is one: anybody may have written into the folder."""

from operator import itemgetter
from typing import Any

import orjson

Event = dict[str, Any]

_TEXT, _COUNT, _FLAG, _MOMENT = (str,), (int,), (bool,), (float, int)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "key", "team", "user", "model", "entry", "provider", "target", "route"), _TEXT),
    **dict.fromkeys(("outcome", "request_id", "policies"), _TEXT),
    **dict.fromkeys(("status", "prompt", "completion", "cached", "reasoning", "search_units"), _COUNT),
    **dict.fromkeys(("stream", "estimated"), _FLAG),
    "started": _MOMENT,
    "ended": (*_MOMENT, type(None)),
    "metadata": (dict,),
    "attempts": (list,),
}
_members = itemgetter(*_KINDS)
_good: set[tuple[type, ...]] = set()  # kinds of members that were looked at: a row is then one look-up


class NoRow(ValueError):
    """A line that is none of ours."""


def parsed(line: bytes) -> Event:
    """The event as a database takes it: Postgres has no NUL in its texts. Raises NoRow."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise NoRow from None
    if not isinstance(event, dict):
        raise NoRow
    if b"\\u0000" in line:
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = value.replace("\0", "\ufffd")
    return event


def checked(event: Event) -> Event:
    """The event, if it has all that a row has. Raises NoRow."""
    event.setdefault("search_units", 0)
    try:
        kinds = tuple(map(type, _members(event)))
    except KeyError:
        raise NoRow from None
    if kinds not in _good:
        if not all(kind in allowed for kind, allowed in zip(kinds, _KINDS.values(), strict=True)):
            raise NoRow
        _good.add(kinds)
    return event
