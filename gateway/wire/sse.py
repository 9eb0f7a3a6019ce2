"""Server-sent events: cut a byte stream at its blank lines, whatever the chunks and line ends."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.wire.fields import loaded
from gateway.wire.written import MARK, read, read_exactly

_DONE = re.compile(rb"(?:^|[\r\n])data:[ \t]*\[DONE\]")
_BLANK = re.compile(rb"\n\r?\n|\r\r")  # behind the end of a line, which may differ from its own
_NAMED = re.compile(rb"(?:^|[\r\n])event:[ \t]*error[ \t]*[\r\n]")
_ERROR = re.compile(_NAMED.pattern + rb'|"error"\s*:\s*(?!null|false|\s)|"(?:object|type)"\s*:\s*"error"')
# A block whose events are written as nearly all are. One that was cut ends otherwise, but for one that was cut just
# behind an inner bracket: to see that takes reading it, at two to five times the cost. So taps read the few events that
# tell how a stream ends, and those beside an error; without one of the first, whole, it ends in an error.
is_usual = re.compile(rb'(?:(?:event:[^\n]*+\n)?+data: ?+\{"[^\n]*\}\r?+\n\r?+\n)++').fullmatch
MOST_EVENT = 32 << 20  # bytes; images come in single events of several megabytes


class BadStream(ValueError):
    """A stream that is not what its format allows; the message says where."""


class EventTooLarge(BadStream):
    """A stream without a blank line: it must not fill the memory."""


class Splitter:
    """Feed it chunks of any size; it returns all the whole events so far as one block of bytes."""

    __slots__ = ("_rest", "_searched")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> bytes:
        """Whole events, their blank lines included; b"" while the first is still incomplete. Raises
        EventTooLarge."""
        if not self._rest and chunk.endswith((b"\n\n", b"\n\r\n")):
            return chunk  # the common case: a chunk is a number of whole events
        rest = self._rest
        rest += chunk
        # What ends in a blank line does so in three bytes: only they may straddle what was searched before.
        cut = _last_blank_line(rest, max(0, self._searched - 2))
        if not cut:
            self._searched = len(rest)
            if len(rest) > MOST_EVENT:
                raise EventTooLarge(f"an event of more than {MOST_EVENT >> 20} MiB")
            return b""
        block = bytes(rest[:cut])
        del rest[:cut]
        self._searched = len(rest)
        return block

    def rest(self) -> bytes:
        """The incomplete event at the end."""
        return bytes(self._rest)


def _last_blank_line(buffer: bytearray, start: int) -> int:
    """Where the last whole event ends, 0 if there is none from `start` on."""
    lf = buffer.rfind(b"\n\n", start) + 2
    crlf = buffer.rfind(b"\n\r\n", start) + 3
    cr = buffer.rfind(b"\r\r", start) + 2
    return max(lf if lf > 1 else 0, crlf if crlf > 2 else 0, cr if cr > 1 else 0)


def events(block: bytes) -> Iterator[bytes]:
    """The single events of a block of whole ones, each with its blank line."""
    start = 0
    if b"\r" in block:
        for blank in _BLANK.finditer(block):
            yield block[start : blank.end()]
            start = blank.end()
    else:  # three times as fast as the pattern
        while (end := block.find(b"\n\n", start) + 2) > 1:
            yield block[start:end]
            start = end
    if start < len(block):
        yield block[start:]


def data(event: bytes) -> bytes:
    """The data lines of one event, joined as the standard says; b"" for a comment."""
    lines = [line for line in event.removeprefix(MARK).splitlines() if line.startswith(b"data:")]
    return b"\n".join([line[6:] if line.startswith(b"data: ") else line[5:] for line in lines])


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object that an event is. Raises BadStream."""
    try:
        event = read_exactly(data)
    except orjson.JSONDecodeError:
        raise BadStream("an event is not valid JSON") from None
    if not isinstance(event, dict):
        raise BadStream("an event is no object")
    return event


def check(block: bytes) -> None:
    """For blocks that are not usual: an SDK fails at an event that is no JSON, and sees nothing of what is no event (a
    page, a bare error), which may name the provider's address or key. Raises BadStream."""
    for event in events(block):
        payload = data(event).strip()
        if not payload and event.lstrip().startswith((b"<", b"{")):
            raise BadStream("what is no event stands among its events")
        if payload and payload != b"[DONE]":
            try:
                read(payload)
            except orjson.JSONDecodeError:
                raise BadStream("an event is not valid JSON") from None


def uncut(block: bytes) -> bytes:
    """A usual block without an event that was cut just behind an inner bracket. Where an error is told, one may stand
    before it: it was held until the blank line came that the error begins with."""
    told = list(events(block))
    kept = [one for one in told if is_whole(one) or not data(one)]
    return block if len(kept) == len(told) else b"".join(kept)


def is_whole(rest: bytes) -> bool:
    """Whether an event that lacks only its blank line is all there: one that was cut is no JSON, but for a number."""
    payload = data(rest).strip()
    try:
        return payload == b"[DONE]" or isinstance(read(payload), dict | list | str)
    except orjson.JSONDecodeError:
        return False


def speaks(block: bytes) -> bool:
    """Whether something came: comments are nothing, nor is what says that there is no more."""
    return b"data:" in block and any(data(one).strip() not in (b"", b"[DONE]") for one in events(block))


def tells_error(block: bytes) -> bool:
    """Whether one of the events is an error, by its name or by what it holds: what lies deeper in one (calls, notes,
    an item's result) may talk of errors."""
    return bool(_ERROR.search(block)) and any(map(_is_error, events(block)))


def _is_error(event: bytes) -> bool:
    said = loaded(data(event))
    told = bool(said.get("error")) or "error" in (said.get("object"), said.get("type"))
    return told or bool(_NAMED.search(event))


def is_done(block: bytes) -> bool:
    """Whether OpenAI's last event is in the block. A text may talk of it, but never at the start of a line."""
    return block.find(b"[DONE]") >= 0 and bool(_DONE.search(block))  # twice as fast as `in`
