"""Which word of Bedrock's stands for which of chat's."""

import base64

import pytest

from gateway.wire.converse.words import (
    citation,
    ending,
    finish,
    hidden,
    is_claude,
    reasoning,
    thought,
    usage_of,
)
from gateway.wire.sse import BadStream


def test_reasons_to_stop() -> None:
    told = {
        "end_turn": "stop",
        "tool_use": "tool_calls",
        "guardrail_intervened": "content_filter",
        "new": "new",
    }
    assert {reason: finish(reason) for reason in told} == told
    assert finish(None) is None
    failed = {"finish_reason": "error", "native_finish_reason": "malformed_tool_use"}
    assert ending({"stopReason": "malformed_tool_use"}) == failed
    assert ending({"stopReason": "end_turn"}) == {"finish_reason": "stop"}
    stopped = {"stopReason": "stop_sequence"}
    assert ending(stopped) == {"finish_reason": "stop", "stop_reason": ""}
    asked = {"additionalModelResponseFields": {"stop_sequence": "END"}}
    assert ending(stopped | asked) == {"finish_reason": "stop", "stop_reason": "END"}
    assert ending({**stopped, "additionalModelResponseFields": {}}) == {
        "finish_reason": "stop",
        "stop_reason": "",
    }


def test_what_came_from_a_cache_is_a_part_of_the_prompt() -> None:
    counts = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 100}
    details = {"cached_tokens": 10, "cache_write_tokens": 100}
    told = {
        "prompt_tokens": 111,
        "completion_tokens": 2,
        "total_tokens": 113,
        "prompt_tokens_details": details,
    }
    assert usage_of(counts) == told


@pytest.mark.parametrize(
    "model", ["anthropic.claude-v2", "us.anthropic.claude-x-v1:0", "arn:aws:bedrock:x:1:y/eu.anthropic.c"]
)
def test_claudes_are_told_by_their_maker(model: str) -> None:
    assert is_claude(model)
    assert not is_claude("us.amazon.nova-2-lite-v1:0")


def test_citations_of_documents_are_told_as_anthropic_writes_them() -> None:
    place = {"documentIndex": 2, "start": 3, "end": 5}
    parts = [{"text": "a"}, {"text": "b"}]
    cited = {"title": "t", "sourceContent": parts, "location": {"documentPage": place}}
    assert citation(cited) == {
        "type": "page_location", "cited_text": "ab", "document_index": 2, "document_title": "t",
        "start_page_number": 3, "end_page_number": 5,
    }  # fmt: skip
    of_the_web = {"title": "t", "location": {"web": {"url": "u", "domain": "d"}}}
    page = {"url": "u", "title": "t", "start_index": 0, "end_index": 0}
    assert citation(of_the_web) == {"type": "url_citation", "url_citation": page}
    read = citation({**of_the_web, "sourceContent": parts})
    assert read["url_citation"]["content"] == "ab"
    assert citation({"title": "t"}) == {"title": "t"}


def test_thinking_that_was_signed_comes_back_and_no_other() -> None:
    signed, hid = thought("hm", "s", 0), hidden(base64.b64encode(b"secret").decode(), 1)
    assert reasoning(signed) == {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    redacted = {"redactedContent": base64.b64encode(b"secret").decode()}
    assert reasoning(hid) == {"reasoningContent": redacted}
    unsigned = thought("hm", "", 0)
    assert reasoning(unsigned) is reasoning({**unsigned, "format": signed["format"]}) is None
    assert reasoning({**signed, "format": "google-gemini-v1"}) is None
    with pytest.raises(BadStream, match="no base64"):
        hidden("!", 0)
