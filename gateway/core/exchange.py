"""One call on its way through the house, and what was learned about it."""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from gateway.core.capabilities import Capabilities
from gateway.core.claim import NO_GRANT, Grant
from gateway.core.fact import fact
from gateway.core.failure import GatewayError
from gateway.core.usage import Usage

Headers = Sequence[tuple[bytes, bytes]]


class Upload(Protocol):
    """A body that is passed on as it arrives."""

    @property
    def sent(self) -> bool:
        """Whether it was on its way once: it cannot be sent again."""
        ...

    def open(self, model: str) -> tuple[AsyncIterator[bytes], int | None]:
        """The body for a target that knows the model by this name, and its size where that is known."""
        ...


@fact
class Call:
    """What the client asks: the bytes as they came, and the few fields the house reads.

    `route` is the closed label of the endpoint ("chat", "embeddings", "files" ...), `path` what follows
    the version with its query, `forward` the client's headers that go on to the provider (lower-case names).
    `body` is an Upload where the endpoint's bodies are too large to hold. `payload` is empty for bodies that
    are not JSON.
    """

    route: str
    dialect: str
    method: str
    path: str
    body: bytes | Upload
    payload: Mapping[str, Any]
    model: str
    stream: bool
    forward: Headers = ()


class Caller(NamedTuple):
    """Who asks. `key` and `team` are names, never secrets; `user` and `metadata` are empty when unknown."""

    key: str
    team: str
    user: str = ""
    metadata: Mapping[str, str] = {}


@dataclass(slots=True, frozen=True)
class Target:
    """One place a call may be sent to: a fact that names its provider.

    `provider` is the name in the policy file, `kind` the adapter in `providers.registry`; `model` is what
    the provider calls it ("" passes the asked name through). `facts` is the adapter's own frozen view of
    the provider (address, credentials, headers), made once when policies are compiled.
    """

    name: str  # provider/model, the label in metrics; "*" stands for a name passed through
    provider: str
    kind: str
    dialect: str
    model: str
    facts: Any = field(repr=False)
    weight: int = 1
    condition: Callable[["Exchange"], bool] | None = field(default=None, repr=False)
    ask_usage: bool = True
    capabilities: Capabilities | None = None  # None where nothing is known of the model

    def asked(self, model: str) -> str:
        """The model name to send for a call that asks for `model`."""
        return self.model or model

    def asked_name(self, model: str) -> str:
        """provider/model as it answers a call that asks for `model`; its own name where neither names one."""
        asked = self.model or model
        return f"{self.provider}/{asked}" if asked else self.name


@fact
class Shape:
    """The size of what is asked, as far as limits and conditions care. 0 where the call does not say.

    `input_tokens` is an estimate; `max_tokens` is the call's own bound for one choice.
    """

    input_tokens: int = 0
    max_tokens: int = 0
    choices: int = 1
    messages: int = 0
    tools: int = 0
    images: int = 0

    @property
    def metered(self) -> bool:
        """Whether tokens are read or written at all: of files none are, nor for a count of tokens."""
        return self.choices > 0 or self.input_tokens > 0


NO_SHAPE = Shape()
_AT_WORK = ("ok", "cut", "cancelled", "overran", "pending")


@dataclass(slots=True)
class Attempt:
    """One request to one target. Times are `perf_counter` seconds."""

    target: Target
    started: float
    ended: float = 0.0
    first_byte: float = 0.0
    status: int = 0
    result: str = "pending"  # ok | a Failure's value | cancelled | cut | overran (the call's time was over)
    request_id: str = ""  # the provider's
    span_id: str = ""  # 16 hex, where the call is traced
    asked: str = ""  # provider/model as it was asked
    why: str = ""  # no answer came, and from which address, or which page came in place of one: for operators
    shown: int = 0  # which renewal of the provider's credential the request showed
    sent: bool = False  # the request is on its way: from here on it may cost money
    uploading: bool = False  # its body still comes from the client

    @property
    def at_work(self) -> bool:
        """Whether the provider may have worked on the prompt to the end, whatever came of it."""
        return self.sent and self.result in _AT_WORK


def new_id(wall_time: float) -> str:
    """An id for a call: 12 hex of the wall clock's milliseconds, 20 that nobody can guess (the idea of UUIDv7).
    Rows that come in order are a tenth of the work for a database's index."""
    if not _STOCK:
        raw = os.urandom(1000).hex()
        _STOCK.extend(raw[at : at + 20] for at in range(0, len(raw), 20))
    return f"{int(wall_time * 1000):012x}{_STOCK.pop()}"


_STOCK: list[str] = []  # drawn a hundred at a time: each draw is a system call
os.register_at_fork(after_in_child=_STOCK.clear)


@dataclass(slots=True)
class Exchange:
    """The one mutable record of a call. Made once call and caller are known; facts, never tools.

    Grouped by who writes: the edge, the pipeline, the relay.
    """

    id: str  # ours, 32 hex: unique even where clients repeat their request ids
    call: Call
    caller: Caller
    request_id: str  # the client's where it sent a good one, else `id`
    arrived: float  # perf_counter
    wall_time: float  # at arrival, seconds since the epoch
    shape: Shape = NO_SHAPE
    trace: "Trace | None" = None
    dry_run: bool = False  # nothing is sent, and nothing of it is counted

    model: str = "_other"  # the configured name: the only model label metrics may use
    policies: str = ""  # version of the snapshot this call pinned
    grant: Grant = NO_GRANT
    attempts: list[Attempt] = field(default_factory=list)

    usage: Usage = field(default_factory=Usage)
    status: int = 0
    outcome: str = "ok"  # see meters.requests
    finish_reason: str = ""
    first_token: float = 0.0  # perf_counter of the first event of a stream
    ended: float = 0.0  # perf_counter
    chunks: int = 0
    # Seconds spent waiting for providers, and for the client to send its body and to take its answer: the rest is the
    # gateway's own.
    waited: float = 0.0
    idled: float = 0.0
    dropped: list[str] = field(default_factory=list)  # fields that the last target's format could not carry
    error: str = ""  # code of the refusal or failure, empty when all went well

    @property
    def estimated(self) -> bool:
        """Whether what it is charged is our own guess: nobody told, and one may have worked on it to the end."""
        if self.usage.reported or not self.shape.metered:
            return False
        return bool(self.attempts) and self.attempts[-1].at_work


class Trace(NamedTuple):
    """Where this call stands in a distributed trace. Ids are lower-case hex (W3C trace context). `given` are the
    client's headers where nothing is recorded here: no span is ours then, and of what cannot be read no id is known."""

    trace_id: str
    parent_id: str
    span_id: str
    sampled: bool
    state: str = ""
    given: Headers = ()


@dataclass(slots=True)
class Reply:
    """What goes back to the client: `body` is whole bytes or a stream of chunks. `ending` says what ends the stream
    before its time, for which reason; without it, such a stream is cut."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | AsyncIterator[bytes]
    keep_alive: bytes = b""  # what may be written while a stream is silent; empty: nothing
    ending: Callable[[GatewayError], bytes] | None = None
