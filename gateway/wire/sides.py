"""The two sides of a crossing, with OpenAI's chat between them: fronts, in whose dialects clients speak, and backs, in
whose formats providers do. Both read and tell calls, whole answers and streams."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.wire.base import Changes
from gateway.wire.refusals import Refusals

Json = dict[str, Any]
# What an answer of another shape than its format's leads to. There is no end to wrong shapes, and all mean the same.
WRONG_SHAPE = (AttributeError, LookupError, TypeError, ValueError)
# A chunk of a chat stream, or {"error": {"message", "type", "code"}}. Its `prompt`, (all, cached), are tokens that the
# provider counts before it writes: usage comes at the end, and not every stream gets there.
Piece = Mapping[str, Any]


class Writer(Protocol):
    """Tells one answer in a client's dialect: whole, or chunk by chunk. `tells_failure` where an answer's end may say
    that its generation failed (`error`, as OpenRouter calls it), `tells_media` where an answer may hold pictures and
    sound; elsewhere either is told as an error."""

    tells_failure: bool
    tells_media: bool

    def whole(self, completion: Json) -> Json:
        """A chat completion as this dialect's answer."""
        ...

    def write(self, piece: Piece) -> bytes:
        """b"" where nothing is to be said yet."""
        ...

    def end(self) -> bytes:
        """The last events of a complete stream."""
        ...


class Reader(Protocol):
    """A provider's stream into chat chunks. `finished` once it has said that it is at its end; `complete` while all has
    come that a whole one says, of a format in which no event is the last and the end of the body the end."""

    finished: bool
    complete: bool

    def feed(self, chunk: bytes) -> Sequence[Piece]:
        """Raises BadStream."""
        ...

    def rest(self) -> Sequence[Piece]:
        """What was held back when the stream ended."""
        ...


class Front(Protocol):
    """A dialect that clients speak."""

    def to_chat(self, payload: Mapping[str, Any], refusals: Refusals) -> Json:
        """The call as a chat call, in an object of its own. Tells `refusals` what chat cannot carry, and which
        parts of the call came from where. Raises BadRequest."""
        ...

    def place(self, where: str) -> str:
        """A place in the client's body (`messages[3].content`) as this dialect's API writes it."""
        ...

    def writer(self, asked: Mapping[str, Any], moment: int, ident: str = "") -> Writer: ...

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        """A provider's refusal in this dialect; `error` is OpenAI's error object."""
        ...


class Back(Protocol):
    """A format that providers speak."""

    def from_chat(self, chat: Json, changes: Changes) -> Json:
        """The body for the provider. Raises BadRequest naming what it cannot carry, unless `changes.dropped`
        takes such names."""
        ...

    def completion(self, answer: Any) -> Json:
        """The provider's whole answer as a chat completion. Raises BadStream."""
        ...

    def reader(self) -> Reader: ...

    def error(self, body: bytes) -> Json:
        """A provider's error body as OpenAI's error object; `message` is always there."""
        ...
