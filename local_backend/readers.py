"""Tool calls read character by character: the pieces of which a family's format is put together. Torch-free.

A reader is a generator that is sent one character after another. It says in plain order what it expects next, so
that the pieces in which a text comes can make no difference.
"""

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

from local_backend.written import loads

Schema = Mapping[str, Any]  # of a tool's parameters
Schemas = Mapping[str, Schema]  # by the tool's name
Reader = Generator[None, str, None]
Text = Generator[None, str, str]
LONGEST = 256  # characters of a name, or of a tag
SPACE = " \t\r\n"
_MEMBERS = ("name", "arguments", "parameters", "id", "type")


class NoCall(Exception):
    """What was read is no call."""


class Sink(Protocol):
    """Who hears of the calls that are read."""

    def begin(self, name: str) -> None: ...
    def more(self, arguments: str) -> None: ...
    def end(self) -> None: ...


def skip() -> Text:
    """The first character that is no white space."""
    while (character := (yield)) in SPACE:
        pass
    return character


def expect(text: str) -> Reader:
    """White space, then this."""
    if (yield from skip()) != text[0]:
        raise NoCall
    for character in text[1:]:
        if (yield) != character:
            raise NoCall


def until(mark: str, most: int | None = None) -> Text:
    found = ""
    while not found.endswith(mark):
        found += yield
        if most is not None and len(found) > most:
            raise NoCall
    return found.removesuffix(mark)


def tag() -> Text:
    if (yield from skip()) != "<":
        raise NoCall
    return (yield from until(">", LONGEST))


def _string() -> Text:
    """The rest of a JSON string whose quote has been read."""
    raw = '"'
    while True:
        character = yield
        raw += character
        if character == "\\":
            raw += yield
        elif character == '"':
            return str(_loaded(raw))


def _loaded(raw: str) -> Any:
    try:
        return loads(raw, strict=False)
    except ValueError:
        raise NoCall from None


def _object(tell: Callable[[str], None]) -> Reader:
    """The rest of a JSON object whose brace has been read, told as it comes."""
    depth, quoted = 1, False
    tell("{")
    while depth:
        character = yield
        tell(character)
        if quoted:
            if character == "\\":
                tell((yield))
            quoted = character != '"'
        elif character == '"':
            quoted = True
        else:
            depth += (character in "{[") - (character in "}]")


def call(tools: Schemas, sink: Sink) -> Reader:
    """The rest of `{"name": …, "arguments": {…}}` whose brace has been read, its members in any order."""
    name, kept, told = "", "", False
    character = yield from skip()
    while character != "}":
        member = yield from _member(character)
        character = yield from skip()
        if member == "name":
            name = known((yield from _quoted(character)), tools)
        elif member not in ("arguments", "parameters"):
            yield from _quoted(character)
        elif name and not told and character == "{":
            sink.begin(name)
            told = True
            yield from _object(sink.more)
        else:
            kept = yield from _arguments(character)
        character = yield from _after(",", "}")
    if not told:
        sink.begin(known(name, tools))
        sink.more(kept or "{}")
    sink.end()


def _member(first: str) -> Text:
    """A member's name, and the colon."""
    member = yield from _quoted(first)
    if member not in _MEMBERS or (yield from skip()) != ":":
        raise NoCall
    return member


def _quoted(first: str) -> Text:
    if first != '"':
        raise NoCall
    return (yield from _string())


def _after(between: str, end: str) -> Text:
    """What follows a member: the next one's first character, or the end."""
    character = yield from skip()
    if character == between:
        return (yield from skip())
    if character != end:
        raise NoCall
    return character


def _arguments(first: str) -> Text:
    """As a whole: an object, a string that holds one, as some models write it, or nothing: null, or an empty string."""
    if first == "{":
        parts = list[str]()
        yield from _object(parts.append)
        return "".join(parts)
    if first == '"':
        text = yield from _string()
        if text.strip() and not isinstance(_loaded(text), dict):
            raise NoCall
        return text.strip()
    if first != "n":
        raise NoCall
    for character in "ull":
        if (yield) != character:
            raise NoCall
    return ""


def named(first: str, tools: Schemas, sink: Sink) -> Reader:
    name = first + (yield from until("[", LONGEST))
    tag = yield from until("]", LONGEST)
    if tag == "CALL_ID":
        tag = (yield from until("]", LONGEST)).partition("[")[2]
    if tag != "ARGS" or (yield from skip()) != "{":
        raise NoCall
    sink.begin(known(name.strip(), tools))
    yield from _object(sink.more)
    sink.end()


def known(name: str, tools: Schemas) -> str:
    if name not in tools:
        raise NoCall
    return name
