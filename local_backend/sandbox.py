"""The jinja environment of chat templates: what transformers gives them, no way out, and an end. Torch-free.

A template comes with the model, so it is trusted as little as weights are: no attribute leads to Python, and one
that loops or grows without end is stopped by a meter. (The meter is for mistakes and for a client's odd input; it
does not make a malicious model safe to serve.)
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MOST_SECONDS = 10.0
MOST_CHARACTERS = 64 << 20
_WIDE = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})


class Meter:
    """How long one rendering has taken, and how much it may hold."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + MOST_SECONDS

    def check(self, characters: int = 0) -> None:
        """Raises SecurityError."""
        if characters > MOST_CHARACTERS:
            raise SecurityError(f"it makes more than {MOST_CHARACTERS} characters")
        if time.perf_counter() > self._until:
            raise SecurityError(f"it takes longer than {MOST_SECONDS:g} seconds")


meter: ContextVar[Meter] = ContextVar("meter")


class _Generation(Extension):
    """`{% generation %}` marks what is learned in training; when serving it means nothing."""

    tags = {"generation"}  # noqa: RUF012 - the base class says so

    def parse(self, parser: Parser) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # a block of its own scope, as in transformers: what is set inside stays inside
        return nodes.CallBlock(self.call_method("_inside"), [], [], body, lineno=line)

    def _inside(self, caller: Any) -> str:
        return str(caller())


class _Metered(NodeTransformer):
    """Every loop asks the meter before each round, every `~` before it joins."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the name is jinja's
        found = self.generic_visit(node)
        assert isinstance(found, nodes.For) and isinstance(found.iter, nodes.Expr)
        found.iter = _call("rounds", [found.iter])
        return found

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        found = self.generic_visit(node)
        assert isinstance(found, nodes.Concat)
        return _call("joined", found.nodes)


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    line = arguments[0].lineno
    method = nodes.EnvironmentAttribute(name, lineno=line)
    return nodes.Call(method, arguments, [], None, None, lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
        self.filters["tojson"] = _tojson
        del self.filters["center"]
        self.globals.update(raise_exception=_raise, dict=_Dict(), namespace=_Namespace)
        self.globals.pop("lipsum", None)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        found = _Metered().visit(super()._parse(source, name, filename))
        assert isinstance(found, nodes.Template)
        return found

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _WIDE) and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise SecurityError("powers are not for templates")
        if operator == "*" and isinstance(right, str | list | tuple):
            left, right = right, left
        if isinstance(left, str | list | tuple):
            size = len(left) * max(1, right) if operator == "*" else len(left) + len(right)
            meter.get().check(size)
        return super().call_binop(context, operator, left, right)

    @staticmethod
    def rounds(found: Iterable[Any]) -> Iterable[Any]:
        check = meter.get().check
        return _Rounds(found, check) if hasattr(found, "__len__") else _each(found, check)

    @staticmethod
    def joined(*parts: Any) -> str:
        text = str_join(parts)
        meter.get().check(len(text))
        return text


class _Rounds:
    """Keeps the length, which `loop.length` and `loop.last` want to know."""

    def __init__(self, found: Any, check: Any) -> None:
        self._found, self._check = found, check

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Any]:
        return _each(self._found, self._check)


def _each(found: Iterable[Any], check: Any) -> Iterator[Any]:
    for one in found:
        check()
        yield one


class _Dict:
    """`dict(...)` without the type, through which a template could reach others."""

    def __call__(self, *values: Any, **named: Any) -> dict[Any, Any]:
        return dict(*values, **named)

    def fromkeys(self, *values: Any) -> dict[Any, Any]:
        return dict.fromkeys(*values)


class _Namespace(Namespace):
    """`namespace(...)` whose attributes never begin with an underscore."""

    def __init__(*values: Any, **named: Any) -> None:
        self, rest = values[0], values[1:]
        attributes = dict(*rest, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"the name {name!r} begins with an underscore")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers writes it: no HTML escapes, which jinja's own filter would add."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)
