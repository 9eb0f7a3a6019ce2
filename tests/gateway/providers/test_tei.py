"""Where the calls of Text Embeddings Inference go."""

from dataclasses import replace

import pytest

from gateway.core.exchange import Call, Target
from gateway.providers.registry import PROVIDERS

TEI = PROVIDERS["tei"]


@pytest.mark.parametrize(
    "base_url", ["http://tei:80/a", "http://tei:80/a/", "http://tei:80/a/v1", "http://tei:80/a/v1/"]
)
def test_its_rerank_stands_beside_v1(base_url: str) -> None:
    target = Target("t", "p", "tei", "", "m", TEI.facts(TEI.spec(base_url=base_url)))
    rerank = Call("rerank", "cohere.rerank", "POST", "/rerank", b"{}", {}, "m", False)
    head = TEI.request(target, rerank, TEI.speaks("cohere.rerank", "m"), b"{}", (), 0).head
    assert head.startswith(b"POST /a/rerank HTTP/1.1\r\n")
    embed = replace(rerank, dialect="openai.embeddings", path="/embeddings")
    head = TEI.request(target, embed, "openai.embeddings", b"{}", (), 0).head
    assert head.startswith(b"POST /a/v1/embeddings HTTP/1.1\r\n")


def test_without_an_address_it_is_this_machines() -> None:
    assert TEI.facts(TEI.spec()).origin.port == 8080
