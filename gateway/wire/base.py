"""What a message format must offer."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from gateway.core.exchange import Call, Shape
from gateway.core.failure import GatewayError
from gateway.core.usage import Usage


class Reading(NamedTuple):
    """The few fields of a body that the house reads."""

    payload: Mapping[str, Any]
    model: str
    stream: bool


class Changes(NamedTuple):
    """What the gateway may change in a request between equal dialects; nothing else ever is."""

    model: str
    ask_usage: bool = False  # ask for usage in the stream
    params: Mapping[str, Any] = {}  # added where absent: the provider's defaults, the team's output cap


class Tap(Protocol):
    """Watches an answer go by, keeps its account, and says what may pass.

    `begun` is true once an event came (comments are none), `finished` once the answer has said that it is
    complete, `failed` once it carries an error.
    """

    begun: bool
    finished: bool
    failed: bool
    finish_reason: str

    def feed(self, chunk: bytes) -> bytes:
        """Note one chunk of a stream; return what goes to the client (often the very same object)."""
        ...

    def rest(self) -> bytes:
        """What was held back when the stream ended."""
        ...

    def whole(self, body: bytes) -> None:
        """Note a whole answer."""
        ...


class Dialect(Protocol):
    name: str

    def read(self, body: bytes) -> Reading:
        """Raises BadRequest for what is not a call in this format."""
        ...

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        """Sizes for limits and conditions; `size` is the body's in bytes. Raises BadRequest for nonsense."""
        ...

    def write(self, call: Call, changes: Changes) -> bytes:
        """The body for an upstream of the same dialect: the client's bytes but for the changes."""
        ...

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        """Whether a stream of this call carries usage without the gateway asking for it."""
        ...

    def tap(self, usage: Usage, *, withhold_usage: bool, choices: int = 1) -> Tap:
        """For an answer of so many choices: a stream of several is complete when each of them is."""
        ...

    def error_event(self, error: GatewayError) -> bytes:
        """The event that ends a broken stream."""
        ...
