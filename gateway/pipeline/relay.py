"""Carry the answer to the client, watch it, and never let it end in silence."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from gateway.core.exchange import Attempt, Exchange, Reply, Target
from gateway.core.failure import Failure, GatewayError, UpstreamFailed
from gateway.providers.registry import PROVIDERS
from gateway.upstream.client import Answer
from gateway.upstream.failures import TimedOut, UpstreamError
from gateway.wire.base import EVENTS, Dialect, Tap
from gateway.wire.crossing import CrossingTap
from gateway.wire.raw import RawTap
from gateway.wire.responses.dialect import Responses, ResponsesTap
from gateway.wire.sse import BadStream

Clock = Callable[[], float]

# A stream that has said its last event but stays open is ended by us: some servers forget to. One that has only said
# why it stops may have its usage to tell yet, and its server other things to do.
SETTLE_SECONDS, REASON_SECONDS = 2.0, 6.0
KEEP_ALIVE = b": keep-alive\n\n"

_FAILED = frozenset({"error", "failed"})  # how an answer ends whose end tells of an error
_PASSED = (
    b"content-type", b"content-disposition", b"content-encoding", b"openai-processing-ms", b"openai-version",
    b"retry-after", b"retry-after-ms", b"x-should-retry",
)  # fmt: skip


@dataclass(slots=True)
class Answered:
    """What a target gave: a whole body, or a stream of which `first` is already here."""

    target: Target
    attempt: Attempt
    status: int
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    answer: Answer | None = None  # set while bytes are still to come
    tap: Tap | None = None
    first: list[bytes] = field(default_factory=list)
    is_watched: bool = False  # the stream passes by way of its tap
    over: bool = False  # all of it is in `first`
    cut: bool = False  # it broke after its first event
    told: bool = False  # its client has had the end, or why there is none: nothing after that is missed
    leave: Callable[[bool], None] | None = None  # while a place at the target is taken: gives it back

    def close(self) -> None:
        """Owed by whoever got an answer, whatever happens; idempotent."""
        if self.answer is not None:
            self.answer.close()
        leave, self.leave = self.leave, None
        if leave is not None:
            leave(self.cut)


def relay(exchange: Exchange, answered: Answered, dialect: Dialect, clock: Clock) -> Reply:
    """The reply for the client. Its stream ends whole, or with an error event in the caller's dialect."""
    said = answered.headers
    headers = [(name, said[name]) for name in _PASSED if name in said]
    exchange.status = answered.status
    if answered.answer is None:
        return Reply(answered.status, headers, answered.body)
    if answered.is_watched:
        body = _events(exchange, answered, dialect, clock)
        # A comment may stand between events, and nowhere in a JSON array.
        keep_alive = KEEP_ALIVE if dialect.media == EVENTS else b""
        ending = partial(_early_end, exchange, answered, dialect)
        return Reply(answered.status, headers, body, keep_alive, ending)
    if (length := said.get(b"content-length")) is not None:
        headers.append((b"content-length", length))
    return Reply(answered.status, headers, _bytes(exchange, answered, clock))


async def _events(
    exchange: Exchange, answered: Answered, dialect: Dialect, clock: Clock
) -> AsyncIterator[bytes]:
    tap, answer = answered.tap, answered.answer
    assert tap is not None
    assert answer is not None
    exchange.first_token = clock()
    over, left_open = answered.over, False
    for block in answered.first:
        yield shown(answered.target, tap, block)
    try:
        while not over:
            patience = None
            if tap.settled:
                _note_told(exchange, answered, tap)
                patience = SETTLE_SECONDS if tap.finished else REASON_SECONDS
            before = clock()
            try:
                chunk = await answer.chunk(patience)
            finally:  # who leaves meanwhile, or is cut off, had waited for the provider, too
                exchange.waited += clock() - before
            if not chunk:
                break
            exchange.chunks += 1
            if block := tap.feed(chunk):
                yield shown(answered.target, tap, block)
    except (UpstreamError, BadStream) as error:
        answer.close()
        if not (answered.told or _lacks_its_end_alone(tap, error)):
            yield broken(exchange, answered, dialect, f"the provider's stream broke: {error}")
            return
        left_open = True
    if not over and (rest := _rest(tap, dialect, left_open=left_open)):
        yield shown(answered.target, tap, rest)
    _account(exchange, answered, tap)
    if not (tap.finished or tap.failed):
        yield broken(exchange, answered, dialect, "the provider's stream ended before its end")


def _lacks_its_end_alone(tap: Tap, error: Exception) -> bool:
    """Whether a stream that broke off has said all: why it stops, where it was only left open, and what it took, where
    none of its events is the last."""
    if isinstance(error, TimedOut):
        return tap.settled
    return isinstance(error, UpstreamError) and isinstance(tap, CrossingTap) and tap.complete


def _account(exchange: Exchange, answered: Answered, tap: Tap) -> None:
    """Note how a stream has ended that may be over."""
    exchange.finish_reason = tap.finish_reason
    if tap.failed:
        _note_failure(exchange, answered.attempt, "upstream_error")
    elif tap.finished:
        answered.attempt.result = "ok"


def _note_told(exchange: Exchange, answered: Answered, tap: Tap) -> None:
    """The client has had what says why the stream stops. Where that was the end the call is accounted for: whoever
    ends it meanwhile ends nothing."""
    answered.told = tap.finished or tap.failed
    if answered.told:
        _account(exchange, answered, tap)


def shown(target: Target, tap: Tap, told: bytes) -> bytes:
    """What was told; of a failure without our credentials, as a provider may name the key that it refuses."""
    if not tap.failed and tap.finish_reason not in _FAILED:
        return told
    return PROVIDERS[target.kind].mask(target.facts, told)


def _rest(tap: Tap, dialect: Dialect, *, left_open: bool) -> bytes:
    """What was held back when a stream ended, but for an event that was cut. One that was `left_open` gets its
    dialect's ending."""
    unended = left_open and not (tap.finished or tap.failed)
    try:
        rest = tap.rest()
    except BadStream:
        return b""
    return rest + dialect.ending if unended and not rest.endswith(dialect.ending) else rest


def broken(exchange: Exchange, answered: Answered, dialect: Dialect, message: str) -> bytes:
    """Account for a stream that broke after its first event, and say so to the client."""
    answered.cut = True
    _note_failure(exchange, answered.attempt, "upstream_stream_broken")
    error = UpstreamFailed(f"{message} (target {answered.attempt.asked})", Failure.BROKEN)
    error.code = "upstream_stream_broken"
    return _last_word(exchange, answered, dialect, error)


def _early_end(exchange: Exchange, answered: Answered, dialect: Dialect, error: GatewayError) -> bytes:
    """What ends a stream that we break off ourselves, for a reason with a status of its own. Responses have no word for
    one, and number their events."""
    if answered.told:
        return b""
    if dialect.name == Responses.name:
        return _last_word(exchange, answered, dialect, error)
    return dialect.error_event(error, exchange.request_id)


def _last_word(exchange: Exchange, answered: Answered, dialect: Dialect, error: GatewayError) -> bytes:
    """The error as the end of what was told before, where its words depend on that."""
    if isinstance(answered.tap, CrossingTap | ResponsesTap):
        return answered.tap.broken(error)
    return dialect.error_event(error, exchange.request_id)


def _note_failure(exchange: Exchange, attempt: Attempt, code: str) -> None:
    attempt.result = "cut"
    exchange.outcome, exchange.error = "upstream_error", code


async def _bytes(exchange: Exchange, answered: Answered, clock: Clock) -> AsyncIterator[bytes]:
    """A body that is no event stream. A break is passed on as a break: the framing tells the client."""
    answer, tap = answered.answer, answered.tap
    assert answer is not None
    assert tap is not None
    keep = tap.keep if isinstance(tap, RawTap) else None
    for block in answered.first:
        yield block
    try:
        while chunk := await _timed(exchange, answer, clock):
            exchange.chunks += 1
            if keep is not None:
                keep(chunk)
            yield chunk
    except UpstreamError as error:
        answered.cut = True
        _note_failure(exchange, answered.attempt, "upstream_stream_broken")
        raise AnswerBroken(f"the provider's answer broke: {error}") from error
    tap.whole(b"")
    answered.attempt.result = "ok"


async def _timed(exchange: Exchange, answer: Answer, clock: Clock) -> bytes:
    before = clock()
    try:
        return await answer.chunk()
    finally:
        exchange.waited += clock() - before


class AnswerBroken(GatewayError):
    """Bytes have gone out that cannot be taken back: the connection to the client must be cut."""

    status = 502
    code = "upstream_stream_broken"
    outcome = "upstream_error"
