"""What a crossing cannot carry: refused by name, or left out by name where a fallback must do."""

from gateway.core.failure import BadRequest


class Refusals:
    """`dropped` takes the names where things may be left out; None where they may not."""

    def __init__(self, format_name: str, dropped: list[str] | None) -> None:
        self._format, self._dropped = format_name, dropped

    def add(self, field: str, named: str = "") -> None:
        """`named` tells more of the field than its place. Raises BadRequest."""
        if self._dropped is None:
            raise refused(field, self._format, named)
        self._dropped.append(field)


def refused(field: str, format_name: str, named: str = "") -> BadRequest:
    named = named or f"'{field}'"
    message = f"{named} cannot be carried over to {format_name}, which this model's provider speaks"
    return BadRequest(message, code="unsupported_parameter", param=field)
