"""What a message format must offer."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from gateway.core.exchange import Call, Shape
from gateway.core.fact import fact
from gateway.core.failure import GatewayError
from gateway.core.usage import Usage
from gateway.wire.splice import set_members

EVENTS = b"text/event-stream"


class Reading(NamedTuple):
    """The few fields of a body that the house reads."""

    payload: Mapping[str, Any]
    model: str
    stream: bool


class Quirks(NamedTuple):
    """How a provider's chat differs from OpenAI's, as far as a translated call has to know.

    `thought` is the name under which it takes an assistant's earlier reasoning back, "" where it takes none;
    `refuses` are fields of a call that it knows no place for and would answer with an error; `ident` is the length of
    its ids of calls, letters and digits, 0 where any id does.
    """

    gives_usage: bool = False  # streams carry usage unasked, and asking may be refused
    thought: str = ""
    signed: bool = False  # takes `reasoning_details` back
    refuses: frozenset[str] = frozenset()
    flat: bool = False  # a content must be one text where it holds nothing else
    ident: int = 0


PLAIN = Quirks()


class Changes(NamedTuple):
    """What the gateway may change in a request between equal dialects (nothing else ever is), and what a
    crossing needs to know of the provider."""

    model: str
    ask_usage: bool = False  # ask for usage in the stream
    params: Mapping[str, Any] = {}  # added where absent: the provider's defaults, the team's output cap
    cap_name: str = "max_tokens"  # what the provider's chat calls the output bound
    dropped: list[str] | None = None  # takes the names of fields left out; None: such a call is refused
    quirks: Quirks = PLAIN
    left_out: list[str] | None = None  # takes the names of what is left out of every translated call


@fact
class Asked:
    """What is known of a call when its answer comes. Of so many `choices`: a stream of several is complete when each
    of them is. `moment` (seconds since the epoch) and `ident` (the call's own id) are for formats that name one,
    `request_id` is for their errors. `named` is what the client calls the model, where its provider was asked for it by
    another name."""

    payload: Mapping[str, Any]
    usage: Usage  # the account to be kept
    withhold_usage: bool = False  # of a stream whose client did not ask for it
    choices: int = 1
    moment: int = 0
    ident: str = ""
    request_id: str = ""
    named: str = ""


class Tap(Protocol):
    """Watches an answer go by, keeps its account, and says what may pass.

    `begun` is true once an event came (comments are none), `settled` once the answer has said why it stops (an error
    is a reason, too), so that nothing but its account and its last event may follow, `finished` once the dialect's last
    event came, or, of an answer without one, once it is at its end and complete, `failed` once it carries an error.
    """

    begun: bool
    settled: bool
    finished: bool
    failed: bool
    finish_reason: str

    def feed(self, chunk: bytes) -> bytes:
        """Note one chunk of a stream; return what goes to the client (often the very same object)."""
        ...

    def rest(self) -> bytes:
        """What was held back when the stream ended."""
        ...

    def whole(self, body: bytes) -> bytes | None:
        """Note a whole answer; return what goes to the client in its place, None where it passes as it is."""
        ...


class Way(Protocol):
    """How a call and its answer pass between a client and a provider: in one dialect, or across two."""

    @property
    def name(self) -> str:
        """The dialect that the provider is spoken to in."""
        ...

    @property
    def crosses(self) -> bool:
        """Whether the client speaks another one."""
        ...

    @property
    def media(self) -> bytes:
        """The content type of the provider's streams."""
        ...

    def write(self, call: Call, changes: Changes) -> bytes:
        """The body for the provider; in one dialect the client's bytes but for the changes."""
        ...

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        """Whether a stream of this call carries usage without the gateway asking for it."""
        ...

    def tap(self, asked: Asked) -> Tap:
        """For the answer to what was asked."""
        ...

    def refusal(self, status: int, body: bytes) -> bytes:
        """A provider's error as the client is to see it."""
        ...


class Dialect(Way, Protocol):
    """What clients may speak. A stream that is ended here, as its provider only left it open, gets this `ending`."""

    @property
    def ending(self) -> bytes: ...

    def read(self, body: bytes) -> Reading:
        """Raises BadRequest for what is not a call in this format."""
        ...

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        """Sizes for limits and conditions; `size` is the body's in bytes. Raises BadRequest for nonsense."""
        ...

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The event that ends a broken stream; it names the request where errors of the dialect do."""
        ...


def missing(payload: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what is replaced, what is added) of `params`: a field that is null says no more than one that is absent, and
    must not keep a team's bound out."""
    replace: dict[str, Any] = {}
    add: dict[str, Any] = {}
    for name, value in params.items():
        if name not in payload:
            add[name] = value
        elif payload[name] is None:
            replace[name] = value
    return replace, add


class Untouched:
    """What most dialects share where the provider speaks the client's: the request is the client's but for the model's
    name and what the policies add, the answer is the provider's own."""

    crosses = False
    media = EVENTS
    ending = b""

    def write(self, call: Call, changes: Changes) -> bytes:
        assert isinstance(call.body, bytes)
        replace, add = missing(call.payload, changes.params)
        if changes.model != call.model:
            replace["model"] = changes.model
        return set_members(call.body, replace, add) if replace or add else call.body

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        return True

    def refusal(self, status: int, body: bytes) -> bytes:
        return body
