"""Conditions in CEL (https://cel.dev), type-checked when policies load, evaluated per call.

Trap of the library: a result is a Value object whose truth is always True, for `false` and for errors alike.
Only `value() is True` counts as true.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.core.exchange import Exchange

OnError = Callable[[], None]


class BadExpression(ValueError):
    """An expression that cannot be used; the message says why."""


class ConditionFailed(Exception):
    """An expression that was sound at load failed on this call, a missing metadata key for example."""


class Condition:
    """True, False, or ConditionFailed for one call."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        """Raises BadExpression."""
        self.text = text
        self._program = _compile(text)

    def holds(self, exchange: Exchange) -> bool:
        """Raises ConditionFailed."""
        try:
            value = self._program.eval(data=_facts(exchange)).value()
        except Exception as error:  # the library raises RuntimeError and its own kin
            raise ConditionFailed(str(error)) from None
        if value is True or value is False:
            return bool(value)
        raise ConditionFailed(f"the result is no truth value: {value!r}")

    def or_false(self, on_error: OnError) -> Callable[[Exchange], bool]:
        """A predicate for routing and access: an error counts as false, and is counted."""

        def predicate(exchange: Exchange) -> bool:
            try:
                return self.holds(exchange)
            except ConditionFailed:
                on_error()
                return False

        return predicate


def _compile(text: str) -> Any:
    # Imported here: only policies with conditions pay for the library's 16 MB.
    from cel_expr_python import cel

    kinds = cel.Type
    variables = {
        "request.model": kinds.STRING,
        "request.stream": kinds.BOOL,
        "request.max_tokens": kinds.INT,
        "request.input_tokens": kinds.INT,
        "request.messages": kinds.INT,
        "request.tools": kinds.INT,
        "request.images": kinds.INT,
        "key": kinds.STRING,
        "team": kinds.STRING,
        "user": kinds.STRING,
        "metadata": kinds.Map(kinds.STRING, kinds.STRING),
        "time": kinds.TIMESTAMP,
    }
    try:
        program = cel.NewEnv(variables=variables).compile(text)
    except Exception as error:  # the library raises bare RuntimeErrors
        raise BadExpression(_first_line(str(error))) from None
    if program.return_type().name() != kinds.BOOL.name():
        raise BadExpression("the expression must be true or false, as in 'request.max_tokens <= 8192'")
    return program


def _first_line(message: str) -> str:
    line = message.splitlines()[0] if message else "it cannot be read"
    return line.split("<input>:", 1)[-1].replace(" (in container '')", "")


def _facts(exchange: Exchange) -> dict[str, Any]:
    call, caller, shape = exchange.call, exchange.caller, exchange.shape
    return {
        "request.model": call.model,
        "request.stream": call.stream,
        "request.max_tokens": shape.max_tokens,
        "request.input_tokens": shape.input_tokens,
        "request.messages": shape.messages,
        "request.tools": shape.tools,
        "request.images": shape.images,
        "key": caller.key,
        "team": caller.team,
        "user": caller.user,
        "metadata": dict(caller.metadata),
        "time": datetime.fromtimestamp(exchange.clock, UTC),
    }
