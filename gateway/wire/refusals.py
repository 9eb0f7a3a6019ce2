"""What a crossing cannot carry: refused by name, or left out by name where a fallback must do. The names are those
of the client's own body, whichever half of the crossing finds no word for them."""

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

from gateway.core.failure import BadRequest

# Values that say no more of a member than its absence does.
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "service_tier": ("auto", "default"), "serviceTier": ("unspecified", "standard"), "truncation": ("disabled",),
    "detail": ("auto",), "caller": ({"type": "direct"},), "filename": ("document.pdf",),
}  # fmt: skip
_STEP = re.compile(r"(\w+)|\[(\d+)\]")


class Refusals:
    """`dropped` takes the names where things may be left out; None where they may not. `left_out` takes those of
    what is left out of every call."""

    def __init__(
        self, format_name: str, dropped: list[str] | None, left_out: list[str] | None = None
    ) -> None:
        self._format, self._dropped, self._left_out = format_name, dropped, left_out
        self._origins: dict[int, str] = {}
        # What the client calls a field or a place of chat's, where it differs.
        self.fields: dict[str, str] = {}

    def add(self, field: str, named: str = "") -> None:
        """`named` tells more of the field than its place. Raises BadRequest."""
        if self._dropped is None:
            raise refused(field, self._format, named)
        self._dropped.append(field)

    def leave_out(self, field: str) -> None:
        """What its API says may be left out without a refusal: it is told all the same."""
        if self._left_out is not None:
            self._left_out.append(field)

    def leave_out_of(self, said: Mapping[str, Any], names: Iterable[str], within: str = "") -> None:
        """Those of these members that say something: none, false, what is empty and a default say nothing. `within`
        is where they stand, once for all of their kind: a call may have hundreds."""
        for name in sorted(said.keys() & names):
            if said[name] and said[name] not in _DEFAULTS.get(name, ()):
                self.leave_out(within + name)

    def leave_out_rest(self, said: Mapping[str, Any], known: Set[str], within: str) -> None:
        """The same of all members but those that are known."""
        if not said.keys() <= known:
            self.leave_out_of(said, said.keys() - known, within)

    def leave_out_within(
        self, said: Mapping[str, Any], held: Mapping[str, Set[str]], within: str = ""
    ) -> None:
        """The same of the objects that stand here by these names, of whose members those are known."""
        for name, known in held.items():
            if isinstance(holds := said.get(name), dict):
                self.leave_out_rest(holds, known, f"{within}{name}.")

    def stands_for(self, made: dict[str, Any], where: str) -> dict[str, Any]:
        """Note that `made`, a part of the chat call, came from this place of the client's body."""
        self._origins[id(made)] = where
        return made

    def origin(self, chat: Any, place: str) -> str:
        """The client's place of a place in the chat call, as near as it is known."""
        if place in self.fields:
            return self.fields[place]
        steps = _STEP.findall(place)
        found, known = chat, ""
        for name, number in steps:
            try:
                found = found[name or int(number)]
            except (LookupError, TypeError):
                break
            known = self._origins.get(id(found), known)
        field = steps[0][0]
        return known or self.fields.get(field, field) + place.removeprefix(field)


def refused(field: str, format_name: str, named: str = "") -> BadRequest:
    named = named or f"'{field}'"
    message = f"{named} cannot be carried over to {format_name}, which this model's provider speaks"
    return BadRequest(message, code="unsupported_parameter", param=field)
