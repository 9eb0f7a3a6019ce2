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
    joined = re.compile("|".join(globs), re.DOTALL)
    return lambda name: name in exact or joined.fullmatch(name) is not None


def model_matcher(patterns: Iterable[str]) -> Matcher:
    """The same for names of models. LiteLLM reads several in one, between commas: by a glob that the first of them
    matches the others would pass, too, so that only who may use all may write one."""
    listed = list(patterns)
    matches, exact = matcher(listed), frozenset(listed)
    if "*" in listed:
        return matches
    return lambda name: matches(name) and ("," not in name or name in exact)


def _expression(glob: str) -> str:
    first, *rest = (
        "".join("." if char == "?" else re.escape(char) for char in part) for part in glob.split("*")
    )
    if not rest:
        return first
    *middle, last = rest
    # Atomic groups: the leftmost place of each part is always good enough, so nothing is ever tried twice.
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last
