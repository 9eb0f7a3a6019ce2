"""YAML text to plain data with the place of every node; what `${...}` stands for is filled in on the way."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.config.problem import Path, Place, Problem, written
from gateway.config.variables import Filled

MOST_NODES = 200_000  # what aliases may expand to: a "billion laughs" file ends here
DEEPEST = 64
SHORTEST_SECRET = 4  # characters

_CORE = "tag:yaml.org,2002:"
_PLAIN = frozenset(_CORE + name for name in ("map", "seq", "str", "int", "float", "bool", "null"))


@dataclass(slots=True)
class Paper:
    """One document: its data and where each value (and key) of it stands."""

    data: Any
    file: str
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    mappings: set[Path] = field(default_factory=set)
    filled: dict[Path, str] = field(default_factory=dict, repr=False)  # secrets, perhaps: never shown
    insets: dict[Path, int] = field(default_factory=dict)  # where the text begins in a one-line scalar

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Of the value at `path`, or of the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, Place(self.file, 1, 1))

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        for at, value in self.filled.items():
            if at[: len(path)] == path and value:
                message = _masked(message, value)
        return Problem(self.place(path, key=key), written(path), message)

    def problem_inside(self, path: Path, line: int, column: int, message: str) -> Problem:
        """At a line and column (from 1) inside the text of a scalar, where that can be told."""
        problem = self.problem(path, message)
        inset = self.insets.get(path)
        if inset is None or line > 1:
            return problem
        place = problem.place
        return problem._replace(place=place._replace(column=place.column + inset + column - 1))


def _masked(message: str, value: str) -> str:
    """A value of a few letters is no secret, and would take pieces out of other words: it goes where it is quoted."""
    if len(value) < SHORTEST_SECRET:
        return message.replace(f'"{value}"', '"***"').replace(f"'{value}'", "'***'")
    return message.replace(value, "***")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either of two bases
    """Nodes with the scalars of YAML 1.2's core: in 1.1 the key `on` is a truth value and 1:30 a number."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _rule, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(f"(?:{_rule})$"), list(_first))


class Reader:
    """Reads the documents of one file; collects what is wrong in `problems`."""

    def __init__(self, file: str, text: str, fill: Callable[[str], str]) -> None:
        self._file, self._text, self._fill = file, text, fill
        self._nodes = 0
        self.problems: list[Problem] = []

    def papers(self) -> list[Paper]:
        """Empty documents left out; nothing at all of a file that is no YAML."""
        try:
            self._check_depth()
            return [
                self._paper(node) for node in yaml.compose_all(self._text, Loader=_Loader) if not _empty(node)
            ]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file, 1, 1)
            message = f"this is not YAML: {error.problem}; check indentation and quotes"
            self.problems.append(Problem(place, "", message))
        except yaml.YAMLError:
            message = "this is not YAML: it holds control characters; remove them"
            self.problems.append(Problem(Place(self._file, 1, 1), "", message))
        except _TooMuch as error:
            self.problems.append(Problem(error.place, "", str(error)))
        return []

    def _check_depth(self) -> None:
        """Before anything recurses: libyaml's composer goes down as deep as it is told, and crashes there."""
        depth = 0
        for event in yaml.parse(self._text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEEPEST:
                    raise _TooMuch(
                        f"is nested more than {DEEPEST} deep; write it flatter", self._place(event)
                    )
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    def _paper(self, node: Any) -> Paper:
        paper = Paper(None, self._file)
        paper.data = self._value(node, (), paper)
        return paper

    def _value(self, node: Any, path: Path, paper: Paper) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES or len(path) > DEEPEST:
            raise _TooMuch("aliases expand to more than can be read; write it out", self._place(node))
        paper.values[path] = self._place(node)
        if node.tag not in _PLAIN:
            self._note(node, path, f"the tag {node.tag} is not allowed; write plain YAML")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, paper)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, place), paper) for place, item in enumerate(node.value)]
        return self._scalar(node, path, paper)

    def _mapping(self, node: Any, path: Path, paper: Paper) -> dict[str, Any]:
        found: dict[str, Any] = {}
        paper.mappings.add(path)
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, path, "a key must be a plain word; put it in quotes")
                continue
            key = key_node.value
            if key in found:
                line = paper.keys[(*path, key)].line
                message = f"stands twice, first in line {line}; keep one of them"
                self._note(key_node, (*path, key), message)
                continue
            if "${" in key:
                self._note(key_node, (*path, key), "is not filled in, for it is a key; write it out")
            paper.keys[(*path, key)] = self._place(key_node)
            found[key] = self._value(value_node, (*path, key), paper)
        return found

    def _scalar(self, node: Any, path: Path, paper: Paper) -> Any:
        text, tag = node.value, node.tag
        if node.start_mark.line == node.end_mark.line:
            paper.insets[path] = 1 if node.style else 0
        if "${" in text:
            try:
                text = self._fill(text)
            except ValueError as error:
                self._note(node, path, str(error))
                return ""
            paper.filled[path] = text
            paper.insets.pop(path, None)
            if not node.style and text:
                tag = _resolved(text)
        try:
            if tag != _CORE + "str":
                return _plain(tag, text)
            return Filled(text) if path in paper.filled else text
        except ValueError:
            self._note(node, path, "is not what its tag says; leave the tag out")
            return None

    def _place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _note(self, node: Any, path: Path, message: str) -> None:
        self.problems.append(Problem(self._place(node), written(path), message))


def _empty(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.value


def _resolved(text: str) -> str:
    """The kind of scalar this would be if it stood in the file unquoted."""
    for tag, rule in _Loader.yaml_implicit_resolvers.get(text[0], []):
        if rule.match(text):
            return str(tag)
    return _CORE + "str"


def _plain(tag: str, text: str) -> Any:
    if tag == _CORE + "bool":
        return text.lower() == "true"
    if tag == _CORE + "int":
        return int(text) if len(text) < 20 else float(text)
    if tag == _CORE + "float":
        return float(text)
    return None


class _TooMuch(Exception):
    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place
