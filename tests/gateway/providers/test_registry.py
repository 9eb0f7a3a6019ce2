"""What every provider of the registry promises."""

from dataclasses import replace

import orjson
import pytest

from gateway.core.exchange import Call, Target
from gateway.core.failure import Failure
from gateway.providers.registry import PROVIDERS, serves
from gateway.wire.registry import DIALECTS


def test_the_registry_is_sorted() -> None:
    assert list(PROVIDERS) == sorted(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_speaks_dialects_that_there_are_and_knows_a_refusal(name: str) -> None:
    provider = PROVIDERS[name]
    spoken = {provider.speaks(dialect, "m") for dialect in DIALECTS}
    assert spoken
    assert all(provider.speaks(dialect, "m") == dialect for dialect in spoken)
    assert provider.classify(429, b"") is Failure.THROTTLED
    assert provider.status(429, b"") == 429
    assert provider.cap_name in ("max_tokens", "max_completion_tokens", "maxOutputTokens")


def test_anthropic_is_told_its_version_unless_the_client_says_one() -> None:
    claude = PROVIDERS["anthropic"]
    facts = claude.facts(claude.spec(api_key="sk-ours"))
    target = Target("c/*", "c", "anthropic", "anthropic.messages", "", facts)
    call = Call("messages", "anthropic.messages", "POST", "/messages", b"{}", {}, "m", False)
    own = replace(call, forward=[(b"anthropic-version", b"2099-01-01")])
    head, theirs = (claude.request(target, one, one.dialect, b"{}", (), 0).head for one in (call, own))
    assert head.startswith(b"POST /v1/messages HTTP/1.1\r\nhost: api.anthropic.com\r\n")
    assert b"\r\nx-api-key: sk-ours\r\n" in head
    assert head.endswith(b"\r\nanthropic-version: 2023-06-01\r\n")
    assert theirs.count(b"anthropic-version") == 1
    assert theirs.endswith(b"\r\nanthropic-version: 2099-01-01\r\n")


def test_a_call_across_goes_to_the_path_of_the_dialect_it_is_told_in() -> None:
    openai = PROVIDERS["openai"]
    target = Target("o/*", "o", "openai", "openai.chat", "", openai.facts(openai.spec(api_key="sk-ours")))
    forward = [(b"anthropic-version", b"2023-06-01")]
    call = Call(
        "messages", "anthropic.messages", "POST", "/messages?beta=true", b"{}", {}, "m", False, forward
    )
    head = openai.request(target, call, "openai.chat", b"{}", (), 0).head
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert head.endswith(b"\r\ncontent-type: application/json\r\n")
    assert b"anthropic" not in head


def test_a_400_that_means_a_401_is_about_our_own_key() -> None:
    """xai-responses-03354a21a5"""
    said = b'{"code":"invalid-argument","error":"Incorrect API key provided. You can obtain an API key from ..."}'
    assert PROVIDERS["xai"].classify(400, said) is Failure.UNAUTHORIZED
    assert PROVIDERS["xai"].classify(400, b"{}") is Failure.REJECTED
    assert PROVIDERS["openai"].classify(400, said) is Failure.REJECTED


def test_a_403_about_the_prompt_is_not_about_our_own_key() -> None:
    """docs of OpenRouter, "Moderation Errors"; a 403 of its keys has no such metadata."""
    flagged = {
        "reasons": ["violence"],
        "flagged_input": "I will",
        "provider_name": "OpenAI",
        "model_slug": "o/m",
    }
    said = orjson.dumps({"error": {"code": 403, "message": "flagged", "metadata": flagged}})
    quoted = orjson.dumps({"error": {"code": 403, "message": 'no rights for "flagged_input"'}})
    openrouter = PROVIDERS["openrouter"]
    assert openrouter.classify(403, said) is Failure.REJECTED
    assert openrouter.classify(403, quoted) is Failure.UNAUTHORIZED
    assert openrouter.classify(401, said) is Failure.UNAUTHORIZED
    assert PROVIDERS["openai"].classify(403, said) is Failure.UNAUTHORIZED


@pytest.mark.parametrize(
    ("kind", "dialect", "served"),
    [
        ("vllm", "cohere.rerank", True),
        ("voyage", "cohere.rerank_v1", True),
        ("openai", "cohere.rerank", False),
        ("anthropic", "openai.embeddings", False),
        ("cohere", "anthropic.messages", True),
    ],
)
def test_a_target_serves_what_its_provider_has_an_endpoint_for(kind: str, dialect: str, served: bool) -> None:
    provider = PROVIDERS[kind]
    target = Target("t", "p", kind, "", "", provider.facts(provider.spec(api_key="k")))
    assert serves(dialect, "m", target) is served
