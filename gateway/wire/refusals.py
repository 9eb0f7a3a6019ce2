"""What a crossing cannot carry: refused by name, or left out by name where a fallback must do. The names are those
of the client's own body, whichever half of the crossing finds no word for them."""

import re
from collections.abc import Mapping
from typing import Any

from gateway.core.failure import BadRequest

_STEP = re.compile(r"(\w+)|\[(\d+)\]")


class Refusals:
    """`dropped` takes the names where things may be left out; None where they may not. `left_out` takes those of
    what is left out of every call."""

    def __init__(
        self, format_name: str, dropped: list[str] | None, left_out: list[str] | None = None
    ) -> None:
        self._format, self._dropped, self._left_out = format_name, dropped, left_out
        self._origins: dict[int, str] = {}
        self.fields: dict[str, str] = {}  # what the client calls a field of chat's, where its name differs

    def add(self, field: str, named: str = "") -> None:
        """`named` tells more of the field than its place. Raises BadRequest."""
        if self._dropped is None:
            raise refused(field, self._format, named)
        self._dropped.append(field)

    def leave_out(self, field: str) -> None:
        """What its API says may be left out without a refusal: it is told all the same."""
        if self._left_out is not None:
            self._left_out.append(field)

    def of_message(self, message: Mapping[str, Any], where: str) -> None:
        """What only OpenAI and its kin know of a message: who of several speaks, told once for all of them, and audio
        that it answered with, of which nothing is here."""
        if message.get("name") and message.get("role") not in ("tool", "function"):
            self.leave_out("messages.name")
        if message.get("audio"):
            self.add(f"{where}.audio")

    def of_part(self, part: Mapping[str, Any]) -> None:
        """And of a picture: how closely to look at it."""
        image = part.get("image_url")
        if isinstance(image, dict) and image.get("detail") not in (None, "auto"):
            self.leave_out("image_url.detail")

    def stands_for(self, made: dict[str, Any], where: str) -> dict[str, Any]:
        """Note that `made`, a part of the chat call, came from this place of the client's body."""
        self._origins[id(made)] = where
        return made

    def origin(self, chat: Any, place: str) -> str:
        """The client's place of a place in the chat call, as near as it is known."""
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
