"""A refusal is told in the words of the API that its path belongs to."""

import orjson
import pytest

from gateway.core.failure import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    LimitReached,
    Overloaded,
    UnsupportedEncoding,
    WrongMethod,
)
from gateway.wire.envelope import envelope_of, render


@pytest.mark.parametrize(
    ("path", "envelope"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messages-of-mine", "openai"),
        ("/v1beta/models/x:generateContent", "gemini"),
        ("/v1/chat/completions", "openai"),
        ("/", "openai"),
        ("/v1/rerank", "cohere"),
        ("/v2/rerank", "cohere"),
        ("/v1/rerank/x", "openai"),
    ],
)
def test_the_path_decides_the_envelope(path: str, envelope: str) -> None:
    assert envelope_of(path) == envelope


def test_openais_has_all_four_keys() -> None:
    error = BadRequest('"n" is wrong', code="invalid_value", param="n")
    assert orjson.loads(render(error)) == {
        "error": {
            "message": '"n" is wrong',
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_value",
        }
    }
    assert orjson.loads(render(GatewayError("oops")))["error"]["param"] is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("no"), "invalid_request_error"),
        (WrongMethod("/x", "PUT", ["GET"]), "invalid_request_error"),
        (BodyTooLarge("no"), "request_too_large"),
        (UnsupportedEncoding("no"), "invalid_request_error"),
        (LimitReached("no", rule="r"), "rate_limit_error"),
        (Overloaded("no"), "overloaded_error"),
        (GatewayError("no"), "api_error"),
    ],
)
def test_anthropics_names_the_type_by_the_status(error: GatewayError, kind: str) -> None:
    assert orjson.loads(render(error, "anthropic", "req-1")) == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": "req-1",
    }


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BadRequest("no"), 400, "INVALID_ARGUMENT"),
        (WrongMethod("/x", "PUT", ["GET"]), 405, "UNIMPLEMENTED"),
        (LimitReached("no", rule="r"), 429, "RESOURCE_EXHAUSTED"),
        (GatewayError("no"), 500, "INTERNAL"),
    ],
)
def test_geminis_has_googles_status_and_our_code_as_the_reason(
    error: GatewayError, code: int, status: str
) -> None:
    told = orjson.loads(render(error, "gemini"))["error"]
    assert (told["code"], told["message"], told["status"]) == (code, error.message, status)
    assert told["details"] == [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code}]


def test_coheres_has_openais_object_beside_it() -> None:
    told = orjson.loads(render(BadRequest("no", code="c", param="p"), "cohere", "req-1"))
    error = {"message": "no", "type": "invalid_request_error", "param": "p", "code": "c"}
    assert told == {"id": "req-1", "message": "no", "error": error}
