"""Conditions in CEL (https://cel.dev): type-checked when policies load, evaluated per call.

Trap of the library: a result is a Value object whose truth is always True, for `false` and for errors alike.
Only `value() is True` counts as true.
"""

import functools
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.core.exchange import Exchange

OnError = Callable[[Exchange], None]  # gets the call on which a condition failed


class BadExpression(ValueError):
    """An expression that cannot be used; `line` and `column` count from 1 inside its text."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line, self.column = line, column


class ConditionFailed(Exception):
    """An expression that was sound at load failed on this call, a missing metadata key for example."""


class Facts:
    """One call as conditions are asked about it. The library's own form of it takes four times as long to make as a
    short expression to evaluate: all that is asked at one moment shares one."""

    __slots__ = ("_activation", "_exchange")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._activation: Any = None

    def activation(self) -> Any:
        """Raises ConditionFailed."""
        if self._activation is None:
            facts = _facts(self._exchange)
            if _holds_nul(facts):
                # The library ends strings there: "admin\0x" would pass for "admin".
                raise ConditionFailed("a NUL character came with the call")
            self._activation = _environment().Activation(facts)
        return self._activation


class Condition:
    """A compiled expression. The three things the library is asked for are here: compile, check, evaluate."""

    __slots__ = ("_narrowed", "_program", "text")

    def __init__(self, text: str) -> None:
        """Raises BadExpression."""
        self.text = text
        self._program = _compile(text)
        self._narrowed: dict[tuple[str, ...], Any] = {}

    def holds(self, facts: Facts) -> bool:
        """Raises ConditionFailed."""
        return _truth(self._program, facts.activation())

    def settled(self, names: Mapping[str, str]) -> bool | None:
        """What it is for every call in which these variables have these values; None where that depends on the call."""
        known = tuple(names)
        if known not in self._narrowed:
            self._narrowed[known] = _compiled_with(self.text, known)
        program = self._narrowed[known]
        if program is None:
            return None
        try:
            return _truth(program, _environment(known).Activation(dict(names)))
        except ConditionFailed:
            return None  # each call is to find that out, and to be counted

    def or_false(self, on_error: OnError) -> Callable[[Exchange], bool]:
        """A predicate for routing and access: an error counts as false, and is counted."""

        def predicate(exchange: Exchange) -> bool:
            try:
                return self.holds(Facts(exchange))
            except ConditionFailed:
                on_error(exchange)
                return False

        return predicate


@functools.cache
def _variables() -> dict[str, Any]:
    """The names an expression may use."""
    # Imported here: only policies with conditions pay for the library's 10 MB.
    from cel_expr_python import cel

    kinds = cel.Type
    return {
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


@functools.cache
def _environment(only: tuple[str, ...] | None = None) -> Any:
    """Of all names, or of these alone. The first takes 40 ms to build, so one serves all expressions."""
    from cel_expr_python import cel

    known = _variables()
    return cel.NewEnv(variables=known if only is None else {name: known[name] for name in only})


def _truth(program: Any, activation: Any) -> bool:
    """Raises ConditionFailed."""
    try:
        value = program.eval(activation).value()
    except (RuntimeError, ValueError) as error:  # a spent iteration budget; text that is no Unicode
        raise ConditionFailed(str(error)) from None
    if value is True or value is False:
        return bool(value)
    raise ConditionFailed(str(value))


def _compiled_with(text: str, names: tuple[str, ...]) -> Any:
    """A sound expression where only these names are known; None if it needs others."""
    try:
        return _environment(names).compile(text)
    except RuntimeError:
        return None


def _compile(text: str) -> Any:
    try:
        program = _environment().compile(text)
    except RuntimeError as error:
        raise _bad(str(error)) from None
    if program.return_type().name() != "BOOL":
        raise BadExpression("its result must be true or false, as that of request.max_tokens <= 8192")
    return program


_FAULT = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNKNOWN = re.compile(r"undeclared reference to '([^']*)'.*")


def _bad(message: str) -> BadExpression:
    """The library's first complaint, in our words where it is a name that is not there."""
    match = _FAULT.search(message)
    if match is None:
        return BadExpression("it is nested too deeply or too long; make it simpler")
    what = match[3].replace(" [INVALID_ARGUMENT]", "").replace("Syntax error: ", "")
    if unknown := _UNKNOWN.fullmatch(what):
        what = (
            f'there is no "{unknown[1]}"; there are request.{{model, stream, max_tokens, input_tokens, '
            "messages, tools, images}, key, team, user, metadata and time"
        )
    elif "expecting" in what:
        what = f"{what.partition(' expecting')[0]}; mend the expression here"
    else:
        what = f"{what}; both sides must be of one kind"
    return BadExpression(what, int(match[1]), int(match[2]))


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
        "time": datetime.fromtimestamp(exchange.wall_time, UTC),
    }


def _holds_nul(facts: dict[str, Any]) -> bool:
    """In what callers write themselves."""
    if "\0" in facts["request.model"] or "\0" in facts["user"]:
        return True
    return any("\0" in name or "\0" in value for name, value in facts["metadata"].items())
