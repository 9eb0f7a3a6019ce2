"""YAML text to plain data with the place of every node; variables and files filled in on the way."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from gateway.config.problem import Path, Place, Problem, written

MOST_NODES = 200_000  # what aliases may expand to: a "billion laughs" file ends here

_VARIABLE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>\w+)(?P<default>:-(?P<value>[^}]*))?)\}")
_CORE = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Paper:
    """One document: its data and where each value (and key) of it stands."""

    data: Any
    file: str
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Of the value at `path`, or of the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, Place(self.file, 1, 1))

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        return Problem(self.place(path, key=key), written(path), message)


class Variables:
    """`${VAR}`, `${VAR:-default}`, `${file:PATH}`. Remembers the files it read, so that they are watched."""

    def __init__(self, environ: Mapping[str, str], folder: FilePath) -> None:
        self._environ, self._folder = environ, folder
        self.files: dict[FilePath, bytes] = {}

    def fill(self, text: str) -> str:
        """Raises ValueError; its message never holds a value."""
        return _VARIABLE.sub(self._one, text)

    def _one(self, match: "re.Match[str]") -> str:
        if match["file"]:
            return self._read(match["file"])
        value = self._environ.get(match["name"])
        if match["default"]:
            return value or match["value"]
        if value is None:
            raise ValueError(
                f"the variable {match['name']} is not set; set it, or write "
                f"${{{match['name']}:-}} if it may be absent"
            )
        return value

    def _read(self, name: str) -> str:
        path = self._folder / os.path.expanduser(name)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ValueError(
                f"the file {name} cannot be read ({error.strerror}); mend the path or its rights"
            ) from None
        self.files[path] = raw
        return raw.decode("utf-8", "replace").strip()


class _Loader(yaml.SafeLoader):
    """YAML 1.2's words for true and false alone: in 1.1 the key `on` would be a truth value."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != f"{_CORE}bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_CORE}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class Reader:
    """Reads the documents of one file; collects what is wrong in `problems`."""

    def __init__(self, file: str, text: str, fill: Callable[[str], str]) -> None:
        self._file, self._text, self._fill = file, text, fill
        self._nodes = 0
        self.problems: list[Problem] = []

    def papers(self) -> list[Paper]:
        loader = _Loader(self._text)
        try:
            papers = []
            while loader.check_node():
                paper = Paper(None, self._file)
                paper.data = self._value(loader, loader.get_node(), (), paper)
                if paper.data is not None:
                    papers.append(paper)
            return papers
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file, 1, 1)
            self.problems.append(
                Problem(place, "", f"this is not YAML: {error.problem}; check indentation and quotes")
            )
        except yaml.YAMLError as error:
            self.problems.append(Problem(Place(self._file, 1, 1), "", f"this is not YAML: {error}"))
        except (RecursionError, _TooMuch):
            message = "too deep or too large: aliases expand to more than this program takes; write it out"
            self.problems.append(Problem(Place(self._file, 1, 1), "", message))
        finally:
            loader.dispose()
        return []

    def _value(self, loader: Any, node: Any, path: Path, paper: Paper) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _TooMuch
        paper.values[path] = self._place(node)
        if not node.tag.startswith(_CORE):
            self._note(node, path, f"the tag {node.tag} is not allowed; write plain YAML")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path, paper)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*path, i), paper) for i, item in enumerate(node.value)]
        return self._scalar(loader, node, path)

    def _mapping(self, loader: Any, node: Any, path: Path, paper: Paper) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, path, "a key must be a plain word")
                continue
            key = key_node.value
            if key in found:
                first = paper.keys[(*path, key)]
                self._note(
                    key_node, (*path, key), f"stands twice, first in line {first.line}; keep one of them"
                )
                continue
            paper.keys[(*path, key)] = self._place(key_node)
            found[key] = self._value(loader, value_node, (*path, key), paper)
        return found

    def _scalar(self, loader: Any, node: Any, path: Path) -> Any:
        if "${" in node.value:
            try:
                text = self._fill(node.value)
            except ValueError as error:
                self._note(node, path, str(error))
                return ""
            tag = loader.resolve(yaml.ScalarNode, text, (node.style is None, True))
            node = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark, node.style)
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self._note(node, path, f"cannot be read: {error}; put it in quotes if it is text")
            return None

    def _place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _note(self, node: Any, path: Path, message: str) -> None:
        self.problems.append(Problem(self._place(node), written(path), message))


class _TooMuch(Exception):
    pass
