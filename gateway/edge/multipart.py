"""Find the `model` field of a multipart body without holding the body: what is read meanwhile is spooled."""

import re
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import IO

from gateway.core.failure import BadRequest

IN_MEMORY = 1 << 20  # bytes; past it the spool lies on disk
PIECE = 256 << 10
MOST_PARTS, MOST_PART_HEAD, MOST_MODEL = 1000, 8 << 10, 256

_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))(?:;|\s|$)', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?[;\s]name="([^"\r\n]*)"', re.IGNORECASE)


def boundary_of(content_type: bytes) -> bytes:
    """Raises BadRequest."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise BadRequest(
            "the multipart body needs a boundary of at most 70 characters", code="invalid_multipart"
        )
    return match[1] or match[2]


class Upload:
    """A body on its way through: what was read so far, then the rest of the client's stream.

    It can be sent once; `open` renames the model on the way, where it is asked to.
    """

    def __init__(self, stream: AsyncIterator[bytes], length: int | None) -> None:
        self._stream, self._length = stream, length
        self._spool: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._place: tuple[int, int] | None = None  # where the model's name stands in the spool
        self.model = ""
        self.sent = False

    def open(self, model: str) -> tuple[AsyncIterator[bytes], int | None]:
        """The body with this model's name, and its size where the client told one."""
        self.sent = True
        length = self._length
        if self._place is not None and length is not None:
            length += len(model.encode()) - (self._place[1] - self._place[0])
        return self._pieces(model.encode()), length

    def close(self) -> None:
        self._spool.close()

    async def find_model(self, boundary: bytes) -> None:
        """Read until the field `model` is known (or the body ends). Raises BadRequest for broken multipart."""
        buffer, parts = bytearray(b"\r\n"), 0  # the first delimiter has no line break before it
        mark = b"\r\n--" + boundary
        while True:
            at = await self._until(buffer, mark, keep=len(mark))
            if at < 0:
                return
            del buffer[: at + len(mark)]
            parts += 1
            if parts > MOST_PARTS:
                raise BadRequest(f"the body has more than {MOST_PARTS} parts", code="invalid_multipart")
            end = await self._until(buffer, b"\r\n\r\n", keep=MOST_PART_HEAD + 4, most=MOST_PART_HEAD)
            if end < 0:
                return  # the closing delimiter: there is no model
            name = _NAME.search(bytes(buffer[:end]))
            del buffer[: end + 4]
            if name is not None and name[1] == b"model":
                await self._take_model(buffer, mark)
                return

    async def _take_model(self, buffer: bytearray, mark: bytes) -> None:
        end = await self._until(buffer, mark, keep=MOST_MODEL + len(mark), most=MOST_MODEL)
        if end < 0:
            raise BadRequest("the field 'model' is cut off", code="invalid_multipart", param="model")
        first = self._spool.tell() - len(buffer)
        self._place = (first, first + end)
        self.model = bytes(buffer[:end]).decode("utf-8", "replace").strip()

    async def _until(self, buffer: bytearray, mark: bytes, *, keep: int, most: int | None = None) -> int:
        """Where `mark` begins in the buffer, reading on as needed; -1 at the end of the body. With `most`
        the mark must come within so many bytes; without, what cannot hold it any more is dropped."""
        while (at := buffer.find(mark)) < 0:
            if most is not None and len(buffer) > keep:
                raise BadRequest("a part's head or the model's name is too long", code="invalid_multipart")
            if most is None and len(buffer) > keep:
                del buffer[: len(buffer) - keep]
            piece = await anext(self._stream, b"")
            if not piece:
                return -1
            self._spool.write(piece)
            buffer += piece
        return at

    async def _pieces(self, model: bytes) -> AsyncIterator[bytes]:
        spool = self._spool
        end = spool.tell()
        spool.seek(0)
        if self._place is not None:
            first, last = self._place
            async for piece in self._spooled(first):
                yield piece
            yield model
            spool.seek(last)
        async for piece in self._spooled(end):
            yield piece
        async for piece in self._stream:
            yield piece

    async def _spooled(self, end: int) -> AsyncIterator[bytes]:
        while piece := self._spool.read(min(PIECE, end - self._spool.tell())):
            yield piece
