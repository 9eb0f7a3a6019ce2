"""What is wrong with a policy file: the place, the field, the fault and its remedy."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

Path = tuple[str | int, ...]
MOST_NAMES = 12  # that a message lists


class Place(NamedTuple):
    """Line and column count from 1."""

    file: str
    line: int
    column: int


class Problem(NamedTuple):
    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.place.file}:{self.place.line}:{self.place.column}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class BadPolicies(Exception):
    """Policies that cannot be used; every fault that was found, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


_NAMED = frozenset({"providers", "models", "teams"})


def written(path: Path) -> str:
    """`("rules", 0, "limit")` -> `rules[0].limit`; inside a named entry the way begins there, for the place
    tells which one it is: `("models", "smart", "targets", 0)` -> `targets[0]`."""
    if len(path) > 2 and path[0] in _NAMED and isinstance(path[1], str):
        path = path[2:]
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return "".join(char if char.isprintable() else "?" for char in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "openai"?`, or the list of what there is."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, 1)
    if close:
        return f'did you mean "{close[0]}"?'
    if len(names) > MOST_NAMES:
        names = [*names[:MOST_NAMES], "..."]
    return f"there is {', '.join(names)}" if names else "there is none yet"
