"""What went wrong at one target, as far as the next step cares."""

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from math import inf
from typing import Any, NamedTuple

import orjson

from gateway.config.snapshot import Retry
from gateway.core.failure import Failure
from gateway.pipeline.head import packing
from gateway.policy.base import Dice
from gateway.upstream.client import Answer
from gateway.upstream.failures import (
    ConnectFailed,
    ConnectionCut,
    ConnectTimedOut,
    NoCredential,
    TimedOut,
    UpstreamError,
)
from gateway.wire import sse
from gateway.wire.fields import loaded
from gateway.wire.reason import is_json, reason

Classify = Callable[[int, bytes], Failure]

LONGEST_WAIT = 5.0  # seconds a call waits on the word of a Retry-After
DAY = 86400  # seconds: a longer wait is not believed
EARLY = 0.005  # seconds: uvloop's timers strike up to 2 ms early, when a target would still be at rest
FIRST_BACKOFF, MOST_BACKOFF = 0.1, 2.0  # seconds; full jitter below them

JSON = {b"content-type": b"application/json"}

# What OpenAI, Anthropic and Google call a kind of error, and its status.
_STATUSES = {
    **dict.fromkeys(("invalid_request_error", "invalid_prompt", "context_length_exceeded"), 400),
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), 400),
    **dict.fromkeys(("authentication_error", "invalid_api_key", "UNAUTHENTICATED"), 401),
    "billing_error": 402,
    **dict.fromkeys(("permission_error", "PERMISSION_DENIED"), 403),
    **dict.fromkeys(("not_found_error", "model_not_found", "NOT_FOUND"), 404),
    "request_too_large": 413,
    **dict.fromkeys(
        ("rate_limit_error", "rate_limit_exceeded", "insufficient_quota", "RESOURCE_EXHAUSTED"), 429
    ),
    **dict.fromkeys(("api_error", "server_error", "INTERNAL"), 500),
    **dict.fromkeys(("overloaded_error", "UNAVAILABLE"), 503),
    **dict.fromkeys(("timeout_error", "DEADLINE_EXCEEDED"), 504),
}

_WHEN = {b"retry-after-ms": 0.001, b"retry-after": 1.0}  # headers that say when to come back, and their unit
_IS_STATUS = re.compile(r"[45][0-9]{2}")
_SECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"')


class Setback(NamedTuple):
    """`status` is 0 where no answer came; `body` is the provider's own error, our credentials masked; where it is empty
    `message` is told."""

    failure: Failure
    message: str
    status: int = 0
    headers: Mapping[bytes, bytes] = {}
    body: bytes = b""
    retry_after: float | None = None  # seconds, as the provider said


def leads_on(retry: Retry, setback: Setback) -> bool:
    """Whether the next target is to be tried."""
    if setback.status in retry.statuses or setback.failure is Failure.UNAUTHORIZED:
        return True
    if setback.status or setback.failure is Failure.REJECTED:
        return False
    return setback.failure in retry.failures or setback.failure is Failure.BROKEN


def is_of_key(retry: Retry, setback: Setback) -> bool:
    """Whether another key of the same provider may fare better."""
    return setback.failure in (Failure.UNAUTHORIZED, Failure.THROTTLED) and leads_on(retry, setback)


def is_back_sooner(one: Setback, other: Setback | None) -> bool:
    """Whether one says that it will take calls again before the other, which may not say or not be."""
    return other is None or (one.retry_after or inf) < (other.retry_after or inf)


def pause(retry: Retry, setback: Setback, tries: int, dice: Dice, *, last: bool) -> float | None:
    """Seconds until the same target is tried again; None: not at all."""
    if tries >= retry.attempts or not leads_on(retry, setback):
        return None
    if setback.failure in (Failure.TIMED_OUT, Failure.UNAUTHORIZED):
        return None
    if setback.retry_after is not None:
        # Who says when is believed: another target is asked meanwhile, or the call waits that long.
        return setback.retry_after + EARLY if last and setback.retry_after <= LONGEST_WAIT else None
    return dice() * float(min(MOST_BACKOFF, FIRST_BACKOFF * 2**tries))


def of_error(error: UpstreamError) -> Setback:
    """The setback a failed request amounts to."""
    if isinstance(error, NoCredential):
        return Setback(Failure.UNAUTHORIZED, str(error))
    if isinstance(error, TimedOut | ConnectTimedOut):
        return Setback(Failure.TIMED_OUT, str(error))
    if isinstance(error, ConnectFailed) or (isinstance(error, ConnectionCut) and not error.response_started):
        return Setback(Failure.UNREACHABLE, str(error))
    return Setback(Failure.BROKEN, str(error))


def in_our_words(answer: Answer, status: int, body: bytes) -> str:
    """What is told of an error that is none in the words of an API; "" for one that is told as it came. One that came
    packed, though nobody asked for that, is believed to be what it says."""
    packed = packing(answer.headers)
    if b"json" in answer.header(b"content-type") if packed else is_json(body):
        return ""
    said = "" if packed else reason(body)
    return f"the provider answered {status}" + (f": {said}" if said else " and gave no reason")


def of_events(events: bytes, classify: Classify) -> Setback:
    """The setback that a stream in the client's own dialect amounts to which began with an error, credentials masked:
    nothing has gone to the client yet, so that it may still be a status."""
    for event in sse.events(events):
        # Gemini's may be the elements of an array.
        said = loaded(sse.data(event) or event.strip(b"[], \t\r\n"))
        named = said if isinstance(said.get("message"), str) and sse.tells_error(event) else {}
        if error := _error_in(said) or named:
            status = {"status": said["status"]} if isinstance(said.get("status"), int) else {}
            return of_said({**status, **error}, classify, partial(_as_it_came, said, error))
    return Setback(Failure.BROKEN, "the stream began with an error", 502)


def of_body(body: bytes, classify: Classify, refusal: Callable[[int], bytes]) -> Setback | None:
    """The setback that a whole answer amounts to which is an error in spite of its status; None where it tells of none.
    `refusal` gives the client's body for a status."""
    said = loaded(body)
    error = _error_in(said) or (said if isinstance(said.get("message"), str) else {})
    return of_said(error, lambda status, _: classify(status, body), refusal) if error else None


def of_said(error: Mapping[str, Any], classify: Classify, refusal: Callable[[int], bytes]) -> Setback:
    """The same of an error that is known as OpenAI's error object; `refusal` gives the body of an answer with this
    status. Some say which status it would have been (groq-chat_completions-8e947bc80e), most say what kind it is; of
    all others the provider is broken."""
    status = _status_of(error) or 502
    body = refusal(status)
    return Setback(classify(status, body), "an error came in place of an answer", status, JSON, body)


def _as_it_came(said: Mapping[str, Any], error: Mapping[str, Any], _: int) -> bytes:
    """The body of an answer out of an event that holds all of it but for the status."""
    return orjson.dumps(said if "error" in said else {"error": error})


def _error_in(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The error object of an event, wherever its dialect keeps it; empty for an event that tells of none."""
    error = said.get("error")
    if isinstance(error, str):
        return {"message": error}
    if isinstance(error, dict):
        return error
    response = said.get("response")
    if isinstance(response, dict) and isinstance(response.get("error"), dict):
        return {"type": None, "param": None, **response["error"]}
    if "error" in (said.get("type"), said.get("object")):
        return {"type": None, **{name: said.get(name) for name in ("message", "param", "code")}}
    return {}


def _status_of(error: Mapping[str, Any]) -> int:
    """0 where the error does not say."""
    for name in ("status_code", "code", "status", "type"):
        said = error.get(name)
        if isinstance(said, int) and 400 <= said < 600:
            return said
        if isinstance(said, str):
            if said in _STATUSES:
                return _STATUSES[said]
            if _IS_STATUS.fullmatch(said):
                return int(said)
    return 0


def retry_after_seconds(answer: Answer, now: float) -> float | None:
    """`retry-after-ms` or `retry-after` in seconds; nonsense is None. A date is reckoned from the answer's own `date`,
    where it has one, else from `now`, in seconds since the epoch."""
    for name, scale in _WHEN.items():
        value = answer.header(name).strip()
        if _SECONDS.fullmatch(value):
            seconds = float(value) * scale
        else:
            then = _moment(value)
            seconds = then - (_moment(answer.header(b"date")) or now) if then else 0
        if 0 < seconds < DAY:
            return seconds
    return None


def retry_delay(body: bytes) -> float | None:
    """The same where Google says it."""
    found = _RETRY_DELAY.search(body)
    return float(found[1]) if found and 0 < float(found[1]) < DAY else None


def is_sensible(name: bytes, value: bytes) -> bool:
    """False of a header that should tell when to come back and holds neither a number nor a date."""
    return name not in _WHEN or _SECONDS.fullmatch(value.strip()) is not None or _moment(value) is not None


def _moment(value: bytes) -> float | None:
    """An HTTP date in seconds since the epoch; None for what is none, however large its numbers."""
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp() if value else None
    except (ValueError, OverflowError, TypeError, OSError):
        return None
