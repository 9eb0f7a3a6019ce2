from typing import Any

import orjson
import pytest

from gateway.wire.overflow import is_overflow
from gateway.wire.registry import between

OF_PROVIDERS = [
    "prompt is too long: 250000 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 250000 tokens.",
    "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "The input token count (1250000) exceeds the maximum number of tokens allowed (1048576).",
    "Input is too long for requested model.",
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
]


@pytest.mark.parametrize("message", OF_PROVIDERS)
def test_each_provider_says_in_its_own_words_that_a_context_is_too_long(message: str) -> None:
    assert is_overflow(400, {"message": message})


def test_a_code_says_so_too() -> None:
    assert is_overflow(400, {"message": "no", "code": "context_length_exceeded"})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "'max_tokens' is too large: 9 > 8"}),
        (400, {"code": "invalid_value"}),
        (429, {"message": "Rate limit reached for tokens per minute: the prompt is too long for it"}),
    ],
)
def test_other_refusals_do_not(status: int, error: dict[str, Any]) -> None:
    assert not is_overflow(status, error)


def refused(client: str, provider: str, error: dict[str, Any], status: int = 400) -> Any:
    return orjson.loads(between(client, provider).refusal(status, orjson.dumps(error)))["error"]


TOLD = {
    "error": {"message": OF_PROVIDERS[2], "type": "invalid_request_error", "code": "context_length_exceeded"}
}
SAID = {"type": "error", "error": {"type": "invalid_request_error", "message": OF_PROVIDERS[0]}}
GOOGLES = {"error": {"code": 400, "message": OF_PROVIDERS[5], "status": "INVALID_ARGUMENT"}}


@pytest.mark.parametrize("client", ["openai.chat", "openai.responses"])
@pytest.mark.parametrize(("provider", "error"), [("anthropic.messages", SAID), ("gemini.generate", GOOGLES)])
def test_clients_of_openai_know_it_by_the_code(client: str, provider: str, error: dict[str, Any]) -> None:
    assert refused(client, provider, error)["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("provider", "error"), [("openai.chat", TOLD), ("openai.responses", TOLD), ("gemini.generate", GOOGLES)]
)
def test_clients_of_messages_know_it_by_how_it_begins(provider: str, error: dict[str, Any]) -> None:
    told = refused("anthropic.messages", provider, error)
    assert told["type"] == "invalid_request_error"
    assert told["message"] == f"prompt is too long: {error['error']['message']}"


def test_other_errors_stay_in_their_providers_words() -> None:
    limited = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    assert refused("anthropic.messages", "openai.chat", limited, 429)["message"] == "slow down"
    unlike = {"error": {"message": "no such field", "status": "INVALID_ARGUMENT"}}
    assert refused("openai.chat", "gemini.generate", unlike)["code"] == "INVALID_ARGUMENT"
