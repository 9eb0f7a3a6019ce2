"""pydantic's findings as problems with a place, in the words "what is wrong; how to mend it"."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import ValidationError

from gateway.config.papers import Paper
from gateway.config.problem import Path, Problem, did_you_mean
from gateway.config.schema import NOT_BUILT, Strict

_REMEDIES = {
    "int_type": "must be a whole number; write it as 5, without quotes",
    "int_from_float": "must be a whole number; write it as 5, without quotes",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "list_type": "must be a list, as in [a, b]",
    "dict_type": "must be a mapping, as in {key: value}",
    "model_type": "must be a mapping, as in {key: value}",
    "string_too_short": "must not be empty; write a name, or leave the key out",
    "too_short": "must not be empty; add at least one",
}


def problems_of(paper: Paper, model: type[Strict], base: Path, error: ValidationError) -> list[Problem]:
    """`base` is where in the paper the data of `model` stands. One problem per place: the members of a
    union all complain of the same value."""
    found: dict[Path, Problem] = {}
    said: dict[Path, dict[str, None]] = {}  # in order, each once
    for one in error.errors(include_url=False):
        path: Path = (*base, *_real(paper, base, one["loc"], missing=one["type"] == "missing"))
        message = _message(model, path[len(base) :], dict(one))
        words = said.setdefault(path, {})
        words[message] = None
        found[path] = paper.problem(path, "; or ".join(words), key=one["type"] == "extra_forbidden")
    return list(found.values())


def _real(paper: Paper, base: Path, loc: tuple[str | int, ...], *, missing: bool) -> Iterator[str | int]:
    """pydantic's location without the members of unions it tried; the last is perhaps `missing`."""
    path = base
    for place, step in enumerate(loc):
        at = (*path, step)
        if at in paper.values or (missing and place == len(loc) - 1):
            path = at
            yield step


def _message(model: type[Strict], path: Path, error: dict[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        word = str(path[-1])
        if word in NOT_BUILT:
            return f"{word} is not built yet; remove it"
        return f"is not a key of this place; {did_you_mean(word, _fields_at(model, path[:-1]))}"
    if kind == "missing":
        return "is missing; add it"
    if kind in _REMEDIES:
        return _REMEDIES[kind]
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        return _one_of(error["input"], context["expected"])
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be at least {context['ge']}" if "ge" in context else f"must be at most {context['le']}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}; see gateway schema"


def _one_of(value: object, expected: str) -> str:
    """`expected` is pydantic's "'a', 'b' or 'c'"."""
    words = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
    if isinstance(value, str) and value in NOT_BUILT:
        return f'"{value}" is not built yet; take one of {", ".join(words)}'
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"must be one of {', '.join(words)}" + (f"; {hint}" if hint.startswith("did") else "")


def _fields_at(model: type[Strict], path: Path) -> list[str]:
    """The keys allowed where `path` leads."""
    current: Any = model
    for step in path:
        fields = _fields(current)
        # A list or a mapping of names holds its last argument.
        current = fields[step] if isinstance(step, str) and step in fields else get_args(current)[-1]
    return list(_fields(current))


def _fields(model: Any) -> dict[str, Any]:
    fields = getattr(model, "model_fields", {})
    return {field.alias or name: field.annotation for name, field in fields.items()}
