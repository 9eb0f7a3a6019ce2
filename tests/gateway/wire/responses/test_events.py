from typing import Any

import orjson
import pytest

from gateway.core.failure import BadRequest
from gateway.wire import sse
from gateway.wire.responses.events import as_error, failing, going_on, tell
from gateway.wire.responses.writer import ResponsesWriter

RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "model": "gpt-5", "output": []}
CREATED, BEGUN = (
    tell("response.created", 0, response=RESPONSE),
    tell("response.in_progress", 1, response=RESPONSE),
)


def read(block: bytes) -> list[Any]:
    return [orjson.loads(sse.data(one)) for one in sse.events(block)]


def test_a_stream_that_fails_ends_in_an_error_and_in_the_response_that_failed() -> None:
    error = as_error(BadRequest("too long", code="context", param="input"))
    told, ended = read(failing(error, RESPONSE, 7))
    assert told == {
        "type": "error", "sequence_number": 7, "code": "context", "message": "too long", "param": "input",
        "error": {"type": "invalid_request_error", "code": "context", "message": "too long", "param": "input"},
    }  # fmt: skip
    assert ended == {
        "type": "response.failed", "sequence_number": 8,
        "response": {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "too long"}},
    }  # fmt: skip
    names = [one.split(b"\n")[0] for one in sse.events(failing(error, RESPONSE, 7))]
    assert names == [b"event: error", b"event: response.failed"]


@pytest.mark.parametrize(
    ("error", "code"),
    [({"type": "rate_limit_error", "message": "slow"}, "rate_limit_exceeded"), ({}, "server_error")],
)
def test_a_failed_response_names_its_failure_by_a_code_of_openais(error: dict[str, Any], code: str) -> None:
    *_, told, ended = read(ResponsesWriter({"model": "m"}, 1, "i").write({"error": error}))
    assert (told["type"], ended["response"]["status"], ended["response"]["error"]["code"]) == (
        "error",
        "failed",
        code,
    )
    assert (told["sequence_number"], ended["sequence_number"]) == (2, 3)


@pytest.mark.parametrize(
    ("first", "last", "response", "number"),
    [
        (CREATED + BEGUN, CREATED + BEGUN, RESPONSE, 2),
        (b": a comment\n\n" + CREATED, tell("response.output_text.delta", 41, delta="x"), RESPONSE, 42),
        (CREATED, b'data: {"type":"response.output_text.delta"}\n\n', RESPONSE, 0),
        (b'data: {"response":"r"}\n\n', b"data: [DONE]\n\n", {"object": "response", "output": []}, 0),
    ],
)  # fmt: skip
def test_a_stream_goes_on_behind_what_others_told_of_it(
    first: bytes, last: bytes, response: dict[str, Any], number: int
) -> None:
    assert going_on(first, last) == (response, number)
