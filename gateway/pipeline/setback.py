"""What went wrong at one target, as far as the next step cares."""

import re
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import orjson

from gateway.core.failure import Failure
from gateway.upstream.client import Answer
from gateway.upstream.failures import (
    BadAnswer,
    ConnectFailed,
    ConnectionCut,
    ConnectTimedOut,
    NoCredential,
    TimedOut,
    UpstreamError,
)
from gateway.wire import sse

_JSON = (b"content-type", b"application/json")

_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"')


class Setback(NamedTuple):
    """`status` is 0 where no answer came; `body` is the provider's own error, our credentials masked."""

    failure: Failure
    message: str
    status: int = 0
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    retry_after: float | None = None  # seconds, as the provider said


def of_error(error: UpstreamError) -> Setback:
    """The setback a failed request amounts to."""
    if isinstance(error, NoCredential):
        return Setback(Failure.UNAUTHORIZED, str(error))
    if isinstance(error, TimedOut | ConnectTimedOut):
        return Setback(Failure.TIMED_OUT, str(error))
    if isinstance(error, ConnectFailed):
        return Setback(Failure.UNREACHABLE, str(error))
    if isinstance(error, ConnectionCut) and not error.response_started:
        return Setback(Failure.UNREACHABLE, str(error))
    if isinstance(error, ConnectionCut | BadAnswer):
        return Setback(Failure.BROKEN, str(error))
    return Setback(Failure.BROKEN, str(error))


def of_events(events: bytes, classify: Callable[[int, bytes], Failure]) -> Setback:
    """The setback that a stream amounts to which began with an error: nothing has gone to the client yet, so that
    it may still be a status. Groq and OpenRouter say which (groq-chat_completions-8e947bc80e); else the provider is
    broken."""
    for data in map(sse.data, sse.events(events)):
        try:
            said = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue
        error = said.get("error") if isinstance(said, dict) else None
        named = [error.get(name) for name in ("status_code", "code")] if isinstance(error, dict) else []
        for status in named:
            if isinstance(status, int) and 400 <= status < 600:
                failure = classify(status, data)
                return Setback(failure, "the stream began with an error", status, [_JSON], data)
    return Setback(Failure.BROKEN, "the stream began with an error", 502)


def retry_after_seconds(answer: Answer, body: bytes, now: float) -> float | None:
    """`retry-after-ms` or `retry-after` in seconds, else what Google says in the body; nonsense is None. A date is
    reckoned from the answer's own `date`, where it has one, else from `now`, in seconds since the epoch."""
    for name, scale in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = answer.header(name)
        try:
            seconds = float(value) * scale
        except ValueError:
            then = _moment(value)
            seconds = then - (_moment(answer.header(b"date")) or now) if then else 0
        if 0 < seconds < 86400:
            return seconds
    if (found := _RETRY_DELAY.search(body)) and 0 < float(found[1]) < 86400:
        return float(found[1])
    return None


def _moment(value: bytes) -> float | None:
    """An HTTP date in seconds since the epoch."""
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp() if value else None
    except ValueError:
        return None
