"""A stream that begins with an error may still be a status: nothing has gone to the client yet."""

from typing import Any, cast

import orjson
import pytest

from gateway.core.failure import Failure
from gateway.pipeline.setback import of_events, retry_after_seconds
from gateway.providers.base import failure_from_status
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
    assert list(came.headers) == [(b"content-type", b"application/json")]
    assert orjson.loads(came.body) == {"error": error}


@pytest.mark.parametrize(
    "said", [event(error={"message": "down", "code": "x"}), event(error="a text"), b'data: {"error": {\n\n']
)
def test_one_that_says_none_is_a_broken_provider(said: bytes) -> None:
    came = of_events(SAID + said, classify)
    assert (came.failure, came.status, came.body) == (Failure.BROKEN, 502, b"")


class Head(dict[bytes, bytes]):
    """All that is read of an answer."""

    def header(self, name: bytes) -> bytes:
        return self.get(name, b"")


@pytest.mark.parametrize(
    ("head", "body", "seconds"),
    [
        ({b"retry-after": b"7"}, b"", 7.0),
        ({b"retry-after-ms": b"1500", b"retry-after": b"7"}, b"", 1.5),
        ({b"retry-after": b"Fri, 15 Jan 2027 08:00:30 GMT"}, b"", 30.0),
        ({b"retry-after": b"Fri, 15 Jan 2027 08:00:30 GMT", b"date": b"Fri, 15 Jan 2027 08:00:20 GMT"}, b"", 10.0),
        ({b"retry-after": b"Fri, 15 Jan 2027 07:59:00 GMT"}, b"", None),
        ({b"retry-after": b"soon"}, b"", None),
        ({b"retry-after": b"9999999"}, b"", None),
        ({}, b'{"retryDelay": "48s"}', 48.0),
        ({}, b"", None),
    ],
)  # fmt: skip
def test_when_to_come_back_is_read_from_whatever_says_it(
    head: dict[bytes, bytes], body: bytes, seconds: float | None
) -> None:
    assert retry_after_seconds(cast(Any, Head(head)), body, 1_800_000_000.0) == seconds
