"""What readers of a provider's stream share whose events are JSON objects."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from gateway.wire import sse
from gateway.wire.sides import Json, Piece


class EventReader(ABC):
    """`finished` once the stream has said that it is complete."""

    complete = False

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self.finished = False

    @abstractmethod
    def _pieces(self, event: Json) -> list[Piece]:
        """Chat's chunks of one event."""

    def feed(self, chunk: bytes) -> Sequence[Piece]:
        """Raises BadStream."""
        return self._read(self._splitter.feed(chunk))

    def rest(self) -> Sequence[Piece]:
        """What was left when the stream ended. Raises BadStream."""
        return self._read(self._splitter.rest())

    def _read(self, block: bytes) -> list[Piece]:
        found: list[Piece] = []
        for event in sse.events(block):
            data = sse.data(event).strip()
            if data and data != b"[DONE]":
                # An error may be told by the event's name alone.
                named = {"type": "error"} if b"error" in event and sse.tells_error(event) else {}
                found += self._pieces(named | sse.parsed(data))
        return found
