"""Compaction: what a model is asked for, what becomes of its summary, and how it is read again."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.refusals import Refusals
from gateway.wire.responses.compaction import compacted, is_ours, resource, summary_of, summing_up
from gateway.wire.responses.items import listed, messages
from gateway.wire.responses.words import seal

IDENT = "0" * 32
FOREIGN = {"type": "compaction", "encrypted_content": "gAAAAABpM0Yj"}


def said(role: str, *parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "input_text", "text": words}


def test_the_whole_conversation_is_told_as_one_text() -> None:
    items = listed(
        [
            {"role": "user", "content": "Find it"},
            said("user", {"type": "input_image", "image_url": "data:,x"}, "no part"),
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "x"},
            {"type": "function_call", "call_id": "c", "name": "grep", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c", "output": "line 7"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": [text("ok")]},
            said("assistant", {"type": "refusal", "refusal": "no"}),
            {"type": "web_search_call", "query": "q"},
            {"type": "compaction", "encrypted_content": seal([{"summary": "earlier"}])},
        ],
        IDENT,
    )
    call = summing_up({"model": "m", "instructions": "Be brief", "input": items, "tools": [1], "user": "u"})
    assert call["store"] is False
    assert "tools" not in call
    assert (call["model"], call["user"]) == ("m", "u")
    told = call["input"].split("\n\n")
    assert told[:3] == ["system: Be brief", "user: Find it", "user: [input_image]"]
    assert told[3:6] == ["assistant thinks: hm", 'assistant calls grep: {"a":1}', "result: line 7"]
    assert told[6:8] == ["result: ok", "assistant: [no]"]
    assert '"query":"q"' in told[8]
    assert told[9:] == ["summary of what came before: earlier"]
    assert "input" in summing_up({"input": items})


def test_what_another_encrypted_is_not_summed_up_unread() -> None:
    with pytest.raises(BadRequest, match="only the provider that made it"):
        summing_up({"input": [FOREIGN]})


def test_what_users_said_last_and_what_was_laid_down_stays_word_for_word() -> None:
    items = listed(
        [
            said("system", text("Law")),
            said("user", text("x" * 100_000)),
            said("assistant", {"type": "output_text", "text": "yes"}),
            said("user", text("and now?")),
        ],
        IDENT,
    )
    kept = compacted(items, "all of it", IDENT)
    assert [one.get("role", one["type"]) for one in kept] == ["system", "user", "compaction"]
    assert kept[1]["content"] == [text("and now?")]
    assert summary_of(kept[-1]) == "all of it"
    told = resource(kept, {"total_tokens": 3}, 5, IDENT)
    assert (told["object"], told["created_at"], told["output"]) == ("response.compaction", 5, kept)


def test_a_summary_is_read_again_as_what_it_says() -> None:
    kept = compacted([], "all of it", IDENT)
    (message,) = messages(kept, Refusals("chat", None))
    assert message["role"] == "user"
    assert message["content"].endswith("all of it")
    assert is_ours(kept)
    assert not is_ours([FOREIGN, "text"])
    assert not is_ours("text")


@pytest.mark.parametrize("sealed", [None, "gh1.", "gh1.%%%", seal([{"other": 1}]), seal([])])
def test_what_is_no_summary_of_ours_is_refused_by_name(sealed: Any) -> None:
    item = {"type": "compaction", "encrypted_content": sealed}
    assert summary_of(item) is None
    with pytest.raises(BadRequest, match=r"input\[0\]"):
        messages([item], Refusals("chat", None))
