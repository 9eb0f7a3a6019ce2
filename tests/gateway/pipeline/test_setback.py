"""A stream that begins with an error may still be a status: nothing has gone to the client yet."""

import orjson
import pytest

from gateway.core.failure import Failure
from gateway.pipeline.setback import of_events
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
