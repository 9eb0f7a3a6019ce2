"""Signed thinking of one format on its way through a client of another: it must come back as it was signed, in its
place among words and calls. Chat has one place for all thoughts of a message, so one that stands behind others says so:
`after` holds how many characters of the text and how many calls came before it. Chat has one place for all words, too:
where some came behind calls, `after` of those calls holds how many characters came before them.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from gateway.wire.fields import is_count

_MARK = b"gatehouse:"
_PACKED = re.compile(base64.b64encode(_MARK)[:13])  # how all that was packed here begins, whatever follows
# How thoughts of other formats look where one would refuse them: what was packed or sealed here, and ids of ours.
_FOREIGN = {
    "anthropic.messages": _PACKED,
    "anthropic.count_tokens": _PACKED,
    "bedrock.messages": _PACKED,
    "gemini.array": _PACKED,
    "gemini.count_tokens": _PACKED,
    "gemini.generate": _PACKED,
    "openai.responses": re.compile(rb'"gh1\.|"rs_[0-9a-f]{32}_'),
}
Json = dict[str, Any]
Call = TypeVar("Call")


def after(characters: int, calls: int) -> Json:
    """The member of a detail that tells its place; none for a thought that came first."""
    return {"after": [characters, calls]} if characters or calls else {}


def after_all(message: Mapping[str, Any]) -> Json:
    """The same of a thought that comes behind all that a chat message holds so far."""
    return after(len(message.get("content") or ""), len(message.get("tool_calls") or []))


def say(message: Json, words: str) -> None:
    """Further words of a chat message. Blank ones are worth no place of their own."""
    said = message.get("content") or ""
    if words.strip():
        for call in message.get("tool_calls") or ():
            call.setdefault("after", len(said))
    message["content"] = said + words


def cuts(calls: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Where words came behind calls: (characters before them, calls up to there), for `in_order`."""
    return [(call["after"], place) for place, call in enumerate(calls, 1) if is_count(call.get("after"))]


def is_plain(detail: Mapping[str, Any]) -> bool:
    """Whether a detail can be read, and not by its provider alone."""
    return bool(detail.get("text") or detail.get("summary"))


def plain(message: Mapping[str, Any]) -> str:
    """The thoughts of a chat message as text."""
    if message.get("reasoning_content"):
        return str(message["reasoning_content"])
    details = (one for one in message.get("reasoning_details") or () if isinstance(one, dict))
    return "".join(str(one.get("text") or one.get("summary") or "") for one in details)


def bare(detail: Mapping[str, Any]) -> Json:
    """A detail, or a call, as its provider knows it."""
    return {name: value for name, value in detail.items() if name != "after"}


def in_order(
    details: Iterable[Mapping[str, Any]],
    content: Any,
    calls: Sequence[Call],
    cut: Sequence[tuple[int, int]] = (),
) -> Iterable[tuple[list[Mapping[str, Any]], Any, Sequence[Call]]]:
    """A message in the order in which it was said: thoughts, the words and the calls that came after them, thoughts
    again. Words that are not one text are not cut. `cut` holds where words came behind calls."""
    text, parts = (content, None) if isinstance(content, str) else ("", content)
    thoughts: list[Mapping[str, Any]] = []
    said = called = 0
    places: list[tuple[tuple[int, int], Any]] = [(_place(detail), detail) for detail in details]
    if cut:
        places = sorted([*places, *((one, None) for one in cut)], key=lambda place: place[0][::-1])
    for (characters, before), detail in places:
        # Blank words are left to those that follow: a provider takes no block of them.
        words = text[said:characters] if text[said:characters].strip() else ""
        if words or before > called:
            yield thoughts, parts or words, calls[called:before]
            thoughts, parts, said, called = [], None, said + len(words), max(called, before)
        if detail is not None:
            thoughts.append(detail)
    yield thoughts, parts or text[said:], calls[called:]


def _place(detail: Mapping[str, Any]) -> tuple[int, int]:
    match detail.get("after"):
        case [characters, calls] if is_count(characters) and is_count(calls):
            return characters, calls
    return 0, 0


def merge(details: list[Json], new: Json) -> None:
    """Details of one index are pieces of one: their texts go on, and what a piece says nothing of stays as it was (a
    signature comes with an empty text)."""
    for known in details:
        if known.get("index") == new.get("index") and known.get("type") == new.get("type"):
            said = {name: value for name, value in new.items() if value}
            texts = {
                name: (known.get(name) or "") + said[name] for name in ("text", "summary") if name in said
            }
            known |= said | texts
            return
    details.append(dict(new))


def holds_foreign(dialect: str, body: bytes) -> bool:
    """Whether a call may hold thoughts that a provider of another format told, which one of this dialect refuses."""
    mark = _FOREIGN.get(dialect)
    return mark is not None and mark.search(body) is not None


def packed(detail: Json) -> str:
    """A detail of `reasoning_details` but for its text, as base64: the shape that all signatures have."""
    kept = {name: value for name, value in detail.items() if name not in ("text", "index")}
    return base64.b64encode(_MARK + orjson.dumps(kept)).decode()


def unpacked(text: str) -> Json | None:
    """None for a signature that was not packed here."""
    try:
        # An SDK that keeps signatures as bytes may write them in the other alphabet.
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
        detail = orjson.loads(raw.removeprefix(_MARK)) if raw.startswith(_MARK) else None
    except (binascii.Error, ValueError):
        return None
    return detail if isinstance(detail, dict) else None
