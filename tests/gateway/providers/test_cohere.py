"""Where Cohere's calls go."""

from dataclasses import replace

import pytest

from gateway.core.exchange import Call, Target
from gateway.providers.registry import PROVIDERS

COHERE = PROVIDERS["cohere"]
CHAT = Call("chat", "openai.chat", "POST", "/chat/completions?x=1", b"{}", {}, "m", True)


@pytest.mark.parametrize(
    ("call", "spoken", "line"),
    [
        (CHAT, "cohere.chat", "/v2/chat"),
        (replace(CHAT, dialect="openai.embeddings"), "cohere.embed", "/v2/embed"),
        (replace(CHAT, dialect="cohere.rerank", path="/rerank?a=b"), "cohere.rerank", "/v2/rerank?a=b"),
        (replace(CHAT, dialect="cohere.rerank_v1", path="/rerank"), "cohere.rerank_v1", "/v1/rerank"),
    ],
)
def test_the_second_version_is_asked_but_where_a_client_speaks_the_first(
    call: Call, spoken: str, line: str
) -> None:
    facts = COHERE.facts(COHERE.spec(api_key="k" * 8))
    head = COHERE.request(Target("t", "p", "cohere", "", "m", facts), call, spoken, b"{}", (), 0).head
    assert head.startswith(f"POST {line} HTTP/1.1\r\nhost: api.cohere.com\r\n".encode())
    assert b"authorization: Bearer kkkkkkkk\r\n" in head
