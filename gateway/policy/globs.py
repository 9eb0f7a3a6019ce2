"""Names and globs: `*` stands for any characters, `?` for one; nothing else is special."""

import re
from collections.abc import Callable, Iterable

Matcher = Callable[[str], bool]


def is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def matcher(patterns: Iterable[str]) -> Matcher:
    """True for names that one of the patterns matches whole."""
    listed = list(patterns)
    if "*" in listed:
        return lambda name: True
    exact = frozenset(pattern for pattern in listed if not is_glob(pattern))
    globs = [_expression(pattern) for pattern in listed if is_glob(pattern)]
    if not globs:
        return exact.__contains__
    # Alternatives of literals and `.*` only: no nested repetition that could run away.
    joined = re.compile("|".join(globs), re.DOTALL)
    return lambda name: name in exact or joined.fullmatch(name) is not None


def _expression(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
