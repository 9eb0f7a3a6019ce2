"""Read the small fields and the JSON of a multipart body while it streams by (RFC 7578), and pass the body on."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from enum import Enum, auto
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple

from gateway.core.failure import BadRequest

IN_MEMORY = 1 << 20  # bytes; past it the spool lies on disk
PIECE = 256 << 10
MOST_PARTS, MOST_PART_HEAD, MOST_VALUE, MOST_JSON = 1000, 8 << 10, 256, 1 << 20

_BOUNDARY = re.compile(
    rb";\s*boundary=(?:\"([^\"\\\r\n]{1,70})\"|([^\s\";,]{1,70}))\s*(?:;|$)", re.IGNORECASE
)
# Strict on purpose: a head that another reader would take for another field could hide a model or an id. So a file's
# name holds no backslash where the field's name is still to come.
_DISPOSITION = re.compile(
    rb'content-disposition:[ \t]*form-data(?:;[ \t]*filename\*?=(?:"[^"\r\n\\]*"|[^\s";]+))*'
    rb';[ \t]*name=(?:"([^"\r\n\\]*)"|([\w.\[\]-]+))'
    rb'(?:;[ \t]*filename\*?=(?:"[^"\r\n]*"|[^\s";]+))*[ \t]*',
    re.IGNORECASE,
)
_FILE_NAME = re.compile(rb';[ \t]*filename\*?=(?:"[^"]|[^\s";])', re.IGNORECASE)
_JSON = re.compile(rb"content-type:[ \t]*application/(?:[\w.+-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE)
# How an object or a list begins in any encoding of Unicode's; blanks alone may lead to one.
_OPENS = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?(?:\0{0,3}\s)*\0{0,3}(?:[{\[]|\Z)")
_PADDING = b" \t"


class Held(Enum):
    """What is held of a part until it is whole: JSON wherever it turns out to be some, or any value of a field."""

    NOTHING = auto()
    JSON = auto()
    VALUE = auto()
    MODEL = auto()


class Part(NamedTuple):
    """What the head of a part says."""

    name: str
    is_file: bool
    is_json: bool


class Field(NamedTuple):
    """A field that was held; `start` and `end` bound its value in the body."""

    name: str
    value: str
    start: int
    end: int
    held: Held
    is_json: bool


def boundary_of(content_type: bytes) -> bytes:
    """Raises BadRequest."""
    match = _BOUNDARY.search(content_type) if len(content_type) < 1024 else None
    if match is None or content_type.lower().count(b"boundary=") > 1:
        raise _bad("the multipart body needs one boundary of at most 70 characters")
    return match[1] or match[2]


class Scanner:
    """Feed it the body in pieces of any size; it gives the fields to be held as they are complete."""

    def __init__(self, boundary: bytes, holds: Callable[[Part], Held]) -> None:
        """`holds` tells by its head what is held of a part."""
        self._mark = b"\r\n--" + boundary
        self._holds = holds
        self._buffer = bytearray(b"\r\n")  # the first delimiter has no line break before it
        self._base = -2  # where the buffer begins in the body
        self._parts = 0
        self._part, self._held = Part("", is_file=False, is_json=False), Held.NOTHING
        self._searched = 0  # of its value
        self._step: Callable[[list[Field]], bool] = self._data

    def feed(self, piece: bytes) -> list[Field]:
        """Raises BadRequest for what is not sound multipart."""
        self._buffer += piece
        found: list[Field] = []
        while self._step(found):
            pass
        return found

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._base += size

    def _data(self, found: list[Field]) -> bool:
        """Look for the next delimiter; what cannot hold it any more is let go."""
        at = self._buffer.find(self._mark)
        if at < 0:
            self._drop(max(0, len(self._buffer) - len(self._mark) + 1))
            return False
        self._drop(at + len(self._mark))
        self._step = self._delimiter
        return True

    def _delimiter(self, found: list[Field]) -> bool:
        """After a boundary: a line break, or the two dashes that end the body."""
        if len(self._buffer) < 2:
            return False
        if self._buffer.startswith(b"--"):
            self._step = self._epilogue
            return True
        padding = len(self._buffer) - len(self._buffer.lstrip(_PADDING))
        line = bytes(self._buffer[padding : padding + 2])
        if padding > 100 or not b"\r\n".startswith(line):
            raise _bad("a line begins with the boundary and is no delimiter")
        if len(line) < 2:
            return False
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _bad(f"the body has more than {MOST_PARTS} parts")
        self._drop(padding + 2)
        self._step = self._head
        return True

    def _head(self, found: list[Field]) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end > MOST_PART_HEAD or (end < 0 and len(self._buffer) > MOST_PART_HEAD):
            raise _bad(f"the head of a part is larger than {MOST_PART_HEAD} bytes")
        if end < 0:
            return False
        self._part = _part_of(bytes(self._buffer[:end]))
        self._drop(end + 2)  # the second line break may belong to the delimiter of an empty part
        self._held, self._searched = self._holds(self._part), 0
        self._step = self._data if self._held is Held.NOTHING else self._value
        return True

    def _value(self, found: list[Field]) -> bool:
        end = self._buffer.find(self._mark, self._searched)
        size = (end if end >= 0 else len(self._buffer) - len(self._mark)) - 2
        if end < 0 and size <= MOST_VALUE:
            return False
        is_json = self._held is not Held.MODEL and self._is_json(size)
        if self._held is Held.JSON and not is_json:
            self._step = self._data
            return True
        if size > MOST_JSON and self._is_file_at_heart():
            self._step = self._data
            return True
        if size > (MOST_JSON if is_json else MOST_VALUE):
            more = f"is longer than {MOST_VALUE} bytes"
            if is_json:
                more = f"holds JSON of more than {MOST_JSON} bytes; send a file in its place, or the call as JSON"
            raise _bad(f"the field {self._part.name!r} {more}")
        if end < 0:
            self._searched = len(self._buffer) - len(self._mark) + 1
            return False
        try:
            value = self._buffer[2:end].decode()
        except UnicodeDecodeError:
            if self._is_file_at_heart():
                self._step = self._data
                return True
            raise _bad(f"the field {self._part.name!r} is not UTF-8") from None
        place = self._base + 2, self._base + max(end, 2)
        found.append(Field(self._part.name, value, *place, self._held, is_json))
        self._step = self._data
        return True

    def _is_file_at_heart(self) -> bool:
        """Of what was held for its beginning alone: sound and pictures may begin with any byte."""
        return self._part.is_file and self._held is Held.JSON and not self._part.is_json

    def _is_json(self, size: int) -> bool:
        beginning = self._buffer[2 : 2 + min(size, MOST_VALUE)]
        return self._part.is_json or (size > 0 and _OPENS.match(beginning) is not None)

    def _epilogue(self, found: list[Field]) -> bool:
        """Nothing may follow that another reader would take for further parts."""
        if self._mark in self._buffer:
            raise _bad("there are parts after the closing boundary")
        self._drop(max(0, len(self._buffer) - len(self._mark) + 1))
        return False


def _part_of(head: bytes) -> Part:
    name: bytes | None = None
    is_file = is_json = False
    for line in head.split(b"\r\n"):
        lower = line.lower()
        if not lower.startswith(b"content-disposition"):
            if lower[:1] in (b" ", b"\t") or b":" not in lower or b"\n" in lower:
                raise _bad("the head of a part holds a broken line")
            if (
                lower.startswith(b"content-transfer-encoding")
                and b"binary" not in lower
                and b"bit" not in lower
            ):
                raise _bad("parts must come without a content-transfer-encoding")
            is_json = is_json or _JSON.fullmatch(line) is not None
            continue
        match = _DISPOSITION.fullmatch(line)
        if match is None or name is not None:
            raise _bad('each part needs one content-disposition: form-data; name="..."')
        name = match[1] if match[1] is not None else match[2]
        is_file = _FILE_NAME.search(line) is not None
    if name is None:
        raise _bad('each part needs one content-disposition: form-data; name="..."')
    return Part(name.decode("utf-8", "replace"), is_file, is_json)


def _bad(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_multipart")


class MultipartUpload:
    """A body on its way through: what had to be read to know the model, then the rest of the client's stream.

    `judge` is asked about every field that was held before the end of it is passed on; what it raises ends the
    upload. `hold` is told of the bytes that are read before the model is known, and may raise. `open` renames the model
    on the way. The body can be sent once.
    """

    def __init__(
        self,
        stream: AsyncIterator[bytes],
        length: int | None,
        scanner: Scanner,
        judge: Callable[[Field], Awaitable[None]],
        hold: Callable[[int], None],
    ) -> None:
        self._stream, self._length, self._scanner = stream, length, scanner
        self._judge, self._hold = judge, hold
        self._spool: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._model: Field | None = None
        self.sent = False

    @property
    def model(self) -> str:
        return self._model.value if self._model is not None else ""

    def open(self, model: str) -> tuple[AsyncIterator[bytes], int | None]:
        """The body with this model's name, and its size where the client told one."""
        length, place = self._length, self._model
        if place is not None and length is not None:
            length += len(model.encode()) - (place.end - place.start)
        return self._pieces(model.encode()), length

    def close(self) -> None:
        self._spool.close()

    async def find_model(self) -> None:
        """Read until the field `model` is known, or the body ends. Raises BadRequest."""
        while self._model is None and (piece := await anext(self._stream, b"")):
            self._hold(len(piece))
            self._spool.write(piece)  # to the page cache: a quarter of a millisecond for a piece at most
            await self._look(piece)

    async def _look(self, piece: bytes) -> None:
        for field in self._scanner.feed(piece):
            if field.held is not Held.MODEL:
                await self._judge(field)
            elif self._model is not None:
                raise BadRequest("'model' stands twice in the body", code="duplicate_field", param="model")
            elif not field.value:
                raise BadRequest(
                    "'model' must name a model", code="missing_required_parameter", param="model"
                )
            else:
                self._model = field

    async def _pieces(self, model: bytes) -> AsyncIterator[bytes]:
        self.sent = True
        spool, place = self._spool, self._model
        end = spool.tell()
        spool.seek(0)
        if place is not None:
            for piece in self._spooled(place.start):
                yield piece
            yield model
            spool.seek(place.end)
        for piece in self._spooled(end):
            yield piece
        async for piece in self._stream:
            await self._look(piece)
            yield piece

    def _spooled(self, end: int) -> Iterator[bytes]:
        while piece := self._spool.read(min(PIECE, end - self._spool.tell())):
            yield piece
