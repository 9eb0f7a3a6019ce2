"""What a crossing cannot carry: refused by name, or left out by name where a fallback must do."""

from gateway.core.failure import BadRequest


class Refusals:
    """`dropped` takes the names where things may be left out; None where they may not."""

    def __init__(self, format_name: str, dropped: list[str] | None) -> None:
        self._format, self._dropped = format_name, dropped

    def add(self, field: str) -> None:
        """Raises BadRequest."""
        if self._dropped is None:
            message = (
                f"'{field}' cannot be carried over to {self._format}, which this model's provider speaks"
            )
            raise BadRequest(message, code="unsupported_parameter", param=field)
        self._dropped.append(field)
