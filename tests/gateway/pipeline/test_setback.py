"""A stream that begins with an error may still be a status: nothing has gone to the client yet."""

from typing import Any, cast

import orjson
import pytest

from gateway.config.snapshot import Retry
from gateway.core.failure import Failure
from gateway.pipeline.setback import (
    LONGEST_WAIT,
    Setback,
    in_our_words,
    is_of_key,
    is_sensible,
    leads_on,
    of_body,
    of_error,
    of_events,
    pause,
    retry_after_seconds,
    retry_delay,
)
from gateway.providers.base import failure_from_status
from gateway.upstream.failures import (
    BodyTooLarge,
    ConnectFailed,
    ConnectionCut,
    ConnectTimedOut,
    NoCredential,
    TimedOut,
    UpstreamError,
)
from tests.scripted import event, word


def classify(status: int, body: bytes) -> Failure:
    return failure_from_status(status)


SAID = b"data: [DONE]\n\n: ping\n\n" + word("a") + b"event: error\n"


@pytest.mark.parametrize(
    ("error", "status", "failure"),
    [
        ({"message": "no", "code": "tool_use_failed", "status_code": 400}, 400, Failure.REJECTED),
        ({"message": "slow", "code": 429}, 429, Failure.THROTTLED),
    ],
)
def test_an_error_that_says_its_status_is_that_answer(error: object, status: int, failure: Failure) -> None:
    came = of_events(SAID + event(error=error), classify)
    assert (came.failure, came.status) == (failure, status)
    assert came.headers == {b"content-type": b"application/json"}
    assert orjson.loads(came.body) == {"error": error}


@pytest.mark.parametrize(
    ("said", "status", "failure"),
    [
        ({"error": {"type": "overloaded_error", "message": "later"}}, 503, Failure.OVERLOADED),
        ({"error": {"type": "rate_limit_error", "message": "slower"}}, 429, Failure.THROTTLED),
        ({"error": {"status": "INVALID_ARGUMENT", "message": "what?"}}, 400, Failure.REJECTED),
        ({"error": {"code": "server_error", "message": "sorry"}}, 500, Failure.BROKEN),
        ({"error": {"status": "DEADLINE_EXCEEDED", "message": "late"}}, 504, Failure.TIMED_OUT),
        ({"error": {"type": "invalid_request_error", "message": "what?"}}, 400, Failure.REJECTED),
        ({"error": {"type": "authentication_error", "message": "who?"}}, 401, Failure.UNAUTHORIZED),
        ({"error": {"type": "billing_error", "message": "pay"}}, 402, Failure.UNAUTHORIZED),
        ({"error": {"status": "PERMISSION_DENIED", "message": "no"}}, 403, Failure.UNAUTHORIZED),
        ({"error": {"code": "model_not_found", "message": "none"}}, 404, Failure.REJECTED),
        ({"error": {"type": "request_too_large", "message": "less"}}, 413, Failure.REJECTED),
        ({"error": {"message": "down", "code": "x"}}, 502, Failure.BROKEN),
        ({"error": {"message": "down", "code": 1234}}, 502, Failure.BROKEN),
        ({"error": "a text"}, 502, Failure.BROKEN),
        ({"status": 429, "error": {"message": "slower"}}, 429, Failure.THROTTLED),
        ({"status": 429, "error": "a text"}, 429, Failure.THROTTLED),
        ({"status": "failed", "error": "a text"}, 502, Failure.BROKEN),
    ],
)
def test_one_that_says_its_kind_has_the_status_of_that_kind(said: Any, status: int, failure: Failure) -> None:
    came = of_events(SAID + event(**said), classify)
    assert (came.failure, came.status, orjson.loads(came.body)) == (failure, status, said)


@pytest.mark.parametrize(
    "said",
    [
        {
            "type": "error",
            "code": "rate_limit_exceeded",
            "message": "slower",
            "param": None,
            "sequence_number": 1,
        },
        {"object": "error", "code": "rate_limit_exceeded", "message": "slower", "param": None},
        {
            "type": "response.failed",
            "response": {"error": {"code": "rate_limit_exceeded", "message": "slower"}, "status": "failed"},
        },
    ],
)
def test_an_event_that_is_an_error_itself_becomes_the_body_of_an_answer(said: Any) -> None:
    came = of_events(event(**said), classify)
    assert (came.failure, came.status) == (Failure.THROTTLED, 429)
    told = {"type": None, "param": None, "code": "rate_limit_exceeded", "message": "slower"}
    assert orjson.loads(came.body) == {"error": told}


def test_an_event_that_is_an_error_by_its_name_alone_becomes_one_too() -> None:
    came = of_events(b"event: error\n" + event(message="boom"), classify)
    assert (came.status, orjson.loads(came.body)) == (502, {"error": {"message": "boom"}})


@pytest.mark.parametrize(
    "said",
    [
        b'data: {"error": {\n\n',
        b"data: [1]\n\n",
        b'data: {"error": 1}\n\n',
        b'data: {"response": {"error": "x"}}\n\n',
    ],
)
def test_what_cannot_be_read_is_a_broken_provider(said: bytes) -> None:
    came = of_events(SAID + said, classify)
    assert (came.failure, came.status, came.body) == (Failure.BROKEN, 502, b"")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"error": {"message": "slow", "type": "rate_limit_error"}}, 429),
        ({"error": {"message": "x", "code": "503"}}, 503),
        ({"error": {"message": "x", "code": "600"}}, 502),
        ({"error": "no"}, 502),
        ({"message": "no"}, 502),
    ],
)
def test_a_whole_answer_may_be_an_error_whatever_its_status(said: Any, status: int) -> None:
    came = of_body(orjson.dumps(said), classify, lambda status: b"told %d" % status)
    assert came is not None
    assert (came.status, came.body) == (status, b"told %d" % status)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error": 1}'])
def test_one_that_tells_of_no_error_is_none(body: bytes) -> None:
    assert of_body(body, classify, lambda status: b"") is None


class Head(dict[bytes, bytes]):
    """All that is read of an answer."""

    @property
    def headers(self) -> dict[bytes, bytes]:
        return self

    def header(self, name: bytes) -> bytes:
        return self.get(name, b"")


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after-ms": b"1500", b"retry-after": b"7"}, 1.5),
        ({b"retry-after": b"Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({b"retry-after": b"Fri, 15 Jan 2027 08:00:30 GMT", b"date": b"Fri, 15 Jan 2027 08:00:20 GMT"}, 10.0),
        ({b"retry-after": b"Fri, 15 Jan 2027 07:59:00 GMT"}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b" 1.5 "}, 1.5),
        ({b"retry-after": b"1_0"}, None),
        ({b"retry-after": b"1e1"}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after-ms": b"nan", b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({b"retry-after": b"Mon, 01 Jan 2020 00:00:00 +99999999999999"}, None),
        ({b"retry-after": b"Mon, 01 Jan 0001 00:00:00 -0000"}, None),
        ({b"retry-after": b"Mon, 99 Jan 2020 00:00:00 GMT"}, None),
        ({b"retry-after": b"9999999"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_when_to_come_back_is_read_from_whatever_says_it(
    head: dict[bytes, bytes], seconds: float | None
) -> None:
    assert retry_after_seconds(cast(Any, Head(head)), 1_800_000_000.0) == seconds


@pytest.mark.parametrize(
    ("head", "body", "told"),
    [
        ({}, b'{"error": {"message": "no"}}', ""),
        ({}, b"upstream connect error", "the provider answered 503: upstream connect error"),
        ({}, b"", "the provider answered 503 and gave no reason"),
        ({b"content-encoding": b"identity"}, b"", "the provider answered 503 and gave no reason"),
        ({b"content-encoding": b"gzip", b"content-type": b"application/json"}, b"\x1f\x8b", ""),
        ({b"content-encoding": b"gzip", b"content-type": b"text/html"}, b"\x1f\x8b",
         "the provider answered 503 and gave no reason"),
    ],
)  # fmt: skip
def test_an_error_in_the_words_of_no_api_is_told_in_ours(
    head: dict[bytes, bytes], body: bytes, told: str
) -> None:
    assert in_our_words(cast(Any, Head(head)), 503, body) == told


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (NoCredential("", "why"), Failure.UNAUTHORIZED),
        (ConnectTimedOut("", "why"), Failure.TIMED_OUT),
        (TimedOut("", "why", phase="idle"), Failure.TIMED_OUT),
        (ConnectFailed("", "why"), Failure.UNREACHABLE),
        (ConnectionCut("", "why", response_started=False), Failure.UNREACHABLE),
        (ConnectionCut("", "why", response_started=True), Failure.BROKEN),
        (BodyTooLarge("", "why"), Failure.BROKEN),
    ],
)
def test_no_answer_is_a_failure_by_what_kept_it_away(error: UpstreamError, failure: Failure) -> None:
    assert of_error(error) == Setback(failure, "why")


def came(failure: Failure, status: int = 0) -> Setback:
    return Setback(failure, "", status)


NARROW = Retry(statuses=frozenset({503}), failures=frozenset())


@pytest.mark.parametrize(
    ("setback", "by_default", "narrowly"),
    [
        (came(Failure.THROTTLED, 429), True, False),
        (came(Failure.OVERLOADED, 503), True, True),
        (came(Failure.REJECTED, 400), False, False),
        (came(Failure.REJECTED), False, False),
        (came(Failure.BROKEN, 501), False, False),
        (came(Failure.UNAUTHORIZED, 403), True, True),
        (came(Failure.UNAUTHORIZED), True, True),
        (came(Failure.UNREACHABLE), True, False),
        (came(Failure.TIMED_OUT), True, False),
        (came(Failure.BROKEN), True, True),
    ],
)
def test_what_leads_on_is_the_policys_word_but_for_our_own_faults_and_broken_answers(
    setback: Setback, by_default: bool, narrowly: bool
) -> None:
    assert (leads_on(Retry(), setback), leads_on(NARROW, setback)) == (by_default, narrowly)


def test_another_key_may_help_where_this_one_is_refused_or_throttled_and_that_leads_on() -> None:
    throttled, refused, broken = (
        came(Failure.THROTTLED, 429),
        came(Failure.UNAUTHORIZED, 401),
        came(Failure.BROKEN, 500),
    )
    assert [is_of_key(Retry(), one) for one in (throttled, refused, broken)] == [True, True, False]
    assert not is_of_key(NARROW, throttled)


def test_the_same_target_is_tried_again_after_a_pause_that_doubles_with_jitter() -> None:
    often, broken = Retry(attempts=9), came(Failure.BROKEN, 500)
    waits = [pause(often, broken, tries, lambda: 0.5, last=False) for tries in (1, 2, 3, 8, 9)]
    assert waits == [0.1, 0.2, 0.4, 1.0, None]
    for useless in (came(Failure.TIMED_OUT), came(Failure.UNAUTHORIZED, 401), came(Failure.REJECTED, 400)):
        assert pause(often, useless, 1, lambda: 0.5, last=True) is None
    long = Setback(Failure.THROTTLED, "", 429, retry_after=LONGEST_WAIT + 1)
    assert pause(often, long, 1, lambda: 0.5, last=True) is None, "nobody waits that long"


@pytest.mark.parametrize("name", [b"retry-after", b"retry-after-ms"])
def test_of_when_to_come_back_clients_are_told_numbers_and_dates_alone(name: bytes) -> None:
    good = (b"0", b"7", b"1.5", b"Fri, 15 Jan 2027 08:00:30 GMT")
    assert [is_sensible(name, value) for value in good] == [True] * len(good)
    bad = (b"", b"soon", b"1_0", b"1e1", b"-1", b"inf", b"5 minutes")
    assert [is_sensible(name, value) for value in bad] == [False] * len(bad)
    assert is_sensible(b"x-other", b"soon")


def test_who_waits_as_told_comes_back_when_the_rest_is_over_for_certain() -> None:
    told = Setback(Failure.OVERLOADED, "", 503, retry_after=1.0)
    wait = pause(Retry(), told, 1, lambda: 0.0, last=True)
    assert wait is not None
    assert 1.002 < wait < 1.05
    assert pause(Retry(), told, 1, lambda: 0.0, last=False) is None, "others are asked meanwhile"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"retryDelay": "48s"}', 48.0),
        (b'{"retryDelay":"0.5s"}', 0.5),
        (b'{"retryDelay": "0s"}', None),
        (b"", None),
    ],
)
def test_google_says_it_in_the_body(body: bytes, seconds: float | None) -> None:
    assert retry_delay(body) == seconds
