"""Chat's answers, told as Anthropic tells them."""

from typing import Any

import orjson
import pytest
from anthropic.types import TextBlock

from gateway.wire.messages.writer import MessagesWriter
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import packed

FORMAT = "anthropic-claude-v1"
SIGNED = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": FORMAT}
HIDDEN = {"type": "reasoning.encrypted", "data": "d", "format": FORMAT}


def whole(reason: str | None = "stop", stop: Any = None, **message: Any) -> dict[str, Any]:
    choice = {"message": message, "finish_reason": reason, "stop_reason": stop}
    told: dict[str, Any] = MessagesWriter().whole({"id": "i", "model": "m", "choices": [choice]})
    return told


def stream(*pieces: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream of these deltas, or whole pieces."""
    writer = MessagesWriter()
    written = b"".join(
        writer.write(one if "choices" in one else {"choices": [{"delta": one}]}) for one in pieces
    )
    events = (written + writer.end()).decode().split("\n\n")[:-1]
    found = [orjson.loads(event.split("\ndata: ")[1]) for event in events]
    assert [event.split("\n")[0] for event in events] == [f"event: {one['type']}" for one in found]
    return found


def short(events: list[dict[str, Any]]) -> list[str]:
    """Each event of a block in a word: `0 text`, `0 +a`, `0 .`"""
    said = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                block = event["content_block"]
                said.append(
                    f"{event['index']} {block['type']} {block.get('id', block.get('data', ''))}".rstrip()
                )
            case "content_block_delta":
                kind, *rest = event["delta"].values()
                said.append(f"{event['index']} +{rest[0]}" + ("!" if kind == "signature_delta" else ""))
            case "content_block_stop":
                said.append(f"{event['index']} .")
    return said


def call(index: int, arguments: str, name: str = "", id: str = "") -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def test_a_completion_is_a_message_with_its_blocks_in_order() -> None:
    told = whole(
        "tool_calls",
        content="a",
        reasoning_content="hm",
        reasoning_details=[SIGNED, HIDDEN, {**SIGNED, "format": "another"}],
        tool_calls=[call(0, '{"x": 1}', "f", "t"), call(1, "", "g", "u"), call(2, "{oops", "h", "v")],
    )
    assert told["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "redacted_thinking", "data": packed({**SIGNED, "format": "another"})},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "u", "name": "g", "input": {}},
        {"type": "tool_use", "id": "v", "name": "h", "input": {"arguments": "{oops"}},
    ]
    assert (told["id"], told["model"], told["stop_reason"], told["stop_sequence"]) == (
        "i",
        "m",
        "tool_use",
        None,
    )


def test_thoughts_that_nobody_signed_are_thoughts_all_the_same() -> None:
    assert whole(content=None, reasoning_content="hm")["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""}
    ]


@pytest.mark.parametrize(
    ("told", "stop", "sequence"),
    [
        (whole("length", content="a"), "max_tokens", None),
        (whole(None, content="a"), "end_turn", None),
        (whole("stop", stop="END", content="a"), "stop_sequence", "END"),
        (whole("stop", stop=7, content="a"), "end_turn", None),
        (whole("stop", refusal="no"), "refusal", None),
        (whole("", tool_calls=[call(0, "{}", "f", "t")]), "tool_use", None),
        (whole("new", content="a"), "end_turn", None),
        (whole("new", tool_calls=[call(0, "{}", "f", "t")]), "tool_use", None),
        (whole("length", tool_calls=[call(0, "{", "f", "t")]), "max_tokens", None),
    ],
)
def test_why_an_answer_ended(told: dict[str, Any], stop: str, sequence: str | None) -> None:
    """vLLM tells the token that stopped it as a number, and Snowflake nothing at all."""
    assert (told["stop_reason"], told["stop_sequence"]) == (stop, sequence)


def test_a_stream_has_a_start_its_blocks_and_an_end() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    azure = {"id": "", "model": "", "choices": []}  # its first chunk, of which nothing is to be told
    first = {"id": "i", "model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]}
    end = {"choices": [{"finish_reason": "length"}]}
    start, *blocks, delta, stop = stream(
        azure, first, {"content": "a"}, {"content": "b"}, end, {"choices": [], "usage": usage}
    )
    assert (start["message"]["id"], start["message"]["model"], start["message"]["content"]) == ("i", "m", [])
    assert short(blocks) == ["0 text", "0 +a", "0 +b", "0 ."]
    assert delta["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert delta["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 3,
    }
    assert stop == {"type": "message_stop"}


def test_a_stream_of_nothing_is_still_a_whole_message() -> None:
    assert [event["type"] for event in stream()] == ["message_start", "message_delta", "message_stop"]


def test_a_block_ends_where_another_kind_begins() -> None:
    found = stream(
        {"reasoning_content": "hm"}, {"reasoning_content": "!"}, {"content": "a"}, {"refusal": "no"}
    )
    assert short(found) == ["0 thinking", "0 +hm", "0 +!", "0 .", "1 text", "1 +a", "1 +no", "1 ."]
    assert found[-2]["delta"]["stop_reason"] == "refusal"


def test_signatures_close_their_thoughts() -> None:
    said = [{"text": "hm"}, {"signature": "s"}, HIDDEN, {"text": "", "signature": "r"}]
    found = stream(*({"reasoning_details": [detail]} for detail in said))
    assert short(found) == ["0 thinking", "0 +hm", "0 +s!", "0 .", "1 redacted_thinking d", "1 .",
                            "2 thinking", "2 +r!", "2 ."]  # fmt: skip


def test_calls_follow_one_another() -> None:
    found = stream(
        {"tool_calls": [call(0, "", "f", "t")]},
        {"tool_calls": [call(0, '{"x"'), call(0, "")]},
        {"tool_calls": [call(0, ":1}")]},
        {"tool_calls": [call(1, "{}", "g", "u")]},
    )
    assert short(found) == ["0 tool_use t", '0 +{"x"', "0 +:1}", "0 .", "1 tool_use u", "1 +{}", "1 ."]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_calls_that_come_interleaved_are_told_one_after_the_other() -> None:
    """OpenAI may write two at once; of the second nothing is told until the first one's arguments are whole."""
    found = stream(
        {"tool_calls": [call(0, "{", "f", "t"), call(1, "", "g", "u")]},
        {"tool_calls": [call(1, "{"), call(0, "}")]},
        {"tool_calls": [call(1, "}")]},
    )
    assert short(found) == ["0 tool_use t", "0 +{", "0 +}", "0 .", "1 tool_use u", "1 +{}", "1 ."]


def test_a_call_without_arguments_yet_is_not_taken_for_whole() -> None:
    found = stream(
        {"tool_calls": [call(0, "", "f", "t")]},
        {"tool_calls": [call(1, "", "g", "u")]},
        {"tool_calls": [call(0, "{}"), call(1, "{}")]},
    )
    assert short(found) == ["0 tool_use t", "0 +{}", "0 .", "1 tool_use u", "1 +{}", "1 ."]


@pytest.mark.parametrize(
    ("between", "told"),
    [
        ({"content": "\n"}, ["1 text", "1 +\n", "1 ."]),
        ({"reasoning_content": "hm"}, ["1 thinking", "1 +hm", "1 ."]),
        ({"reasoning_details": [HIDDEN]}, ["1 redacted_thinking d", "1 ."]),
    ],
)
def test_pieces_of_one_call_are_one_call_whatever_comes_between(
    between: dict[str, Any], told: list[str]
) -> None:
    found = stream({"tool_calls": [call(0, '{"x":', "f", "t")]}, between, {"tool_calls": [call(0, "1}")]})
    assert short(found) == ["0 tool_use t", '0 +{"x":', "0 +1}", "0 .", *told]


def test_what_comes_while_a_call_is_open_is_told_in_its_order() -> None:
    found = stream(
        {"tool_calls": [call(0, "{", "f", "t")]},
        {"content": "a"},
        {"tool_calls": [call(1, "{", "g", "u")]},
        {"content": "b"},
        {"tool_calls": [call(0, "}")]},
        {"content": "c"},
        {"tool_calls": [call(1, "}")]},
        {"content": "d"},
    )
    assert short(found) == ["0 tool_use t", "0 +{", "0 +}", "0 .", "1 text", "1 +a", "1 .", "2 tool_use u", "2 +{",
                            "2 +}", "2 .", "3 text", "3 +b", "3 +c", "3 +d", "3 ."]  # fmt: skip


def test_a_late_piece_of_a_call_says_nothing_or_breaks_the_stream() -> None:
    calls = {"tool_calls": [call(0, "{}", "f", "t"), call(1, "{}", "g", "u")]}
    found = stream(calls, {"tool_calls": [call(0, ""), call(1, ""), call(0, "\n")]})
    assert short(found) == ["0 tool_use t", "0 +{}", "0 .", "1 tool_use u", "1 +{}", "1 ."]
    with pytest.raises(BadStream, match="goes on after"):
        stream(calls, {"tool_calls": [call(0, "1")]})


def test_words_between_calls_lose_no_call() -> None:
    found = stream({"tool_calls": [call(0, "{", "f", "t"), call(1, "{}", "g", "u")]}, {"content": "a"})
    assert short(found) == [
        "0 tool_use t",
        "0 +{",
        "0 .",
        "1 tool_use u",
        "1 +{}",
        "1 .",
        "2 text",
        "2 +a",
        "2 .",
    ]


def test_a_sequence_that_stopped_the_stream_is_told() -> None:
    end = {"choices": [{"delta": {}, "finish_reason": "stop", "stop_reason": "END"}]}
    assert stream({"content": "a"}, end)[-2]["delta"] == {
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
    }


@pytest.mark.parametrize(("kind", "told"), [("rate_limit_error", "rate_limit_error"), ("own", "api_error")])
def test_an_error_has_a_type_that_anthropic_knows(kind: str, told: str) -> None:
    said = MessagesWriter().write({"error": {"type": kind, "message": "no"}})
    assert orjson.loads(said.split(b"data: ")[1])["error"] == {"type": told, "message": "no"}


def test_what_another_provider_signed_is_packed_in_a_stream_too() -> None:
    theirs = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "another"}
    assert short(stream({"reasoning_details": [theirs]})) == [
        "0 thinking",
        "0 +hm",
        "0 .",
        f"1 redacted_thinking {packed(theirs)}",
        "1 .",
    ]


def test_anthropics_own_citations_are_told_as_they_came() -> None:
    cited = {"type": "char_location", "cited_text": "t", "document_index": 0}
    told = whole(content="a", annotations=[cited, cited])
    assert told["content"] == [{"type": "text", "text": "a", "citations": [cited, cited]}]
    events = stream({"content": "a"}, {"annotations": [cited]})
    assert [one["delta"] for one in events if one["type"] == "content_block_delta"] == [
        {"type": "text_delta", "text": "a"},
        {"type": "citations_delta", "citation": cited},
    ]


def test_pages_that_others_cite_are_told_once_and_nothing_is_made_up_of_them() -> None:
    page = {"url": "https://a", "title": "t", "start_index": 0, "end_index": 1}
    cited: list[Any] = [
        {"type": "url_citation", "url_citation": page},
        {"type": "url_citation", "url_citation": {**page, "end_index": 9}},
        {"type": "url_citation", "url": "https://b", "content": "words of it"},
        {"type": "url_citation", "url_citation": {"title": "of no address"}}, {"type": "file_path"}, "odd",
    ]  # fmt: skip
    [block] = whole(content="a", annotations=cited)["content"]
    empty = {"type": "web_search_result_location", "cited_text": "", "encrypted_index": ""}
    assert block["citations"] == [
        {**empty, "url": "https://a", "title": "t"},
        {**empty, "url": "https://b", "title": None, "cited_text": "words of it"},
    ]
    read = TextBlock.model_validate(block).citations
    assert [type(one).__name__ for one in read or []] == ["CitationsWebSearchResultLocation"] * 2
    events = stream({"content": "a"}, {"annotations": cited[:1]}, {"annotations": cited[1:]})
    told = [one["delta"]["citation"] for one in events if "citation" in one.get("delta", {})]
    assert told == block["citations"]


def test_an_answer_without_an_id_and_a_model_has_the_calls_own() -> None:
    writer = MessagesWriter("msg_1", "asked")
    told = writer.whole({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})
    assert (told["id"], told["model"]) == ("msg_1", "asked")
    start = writer.write({"choices": [{"delta": {}}]}).decode().split("\n\n")[0]
    message = orjson.loads(start.split("data: ")[1])["message"]
    assert (message["id"], message["model"]) == ("msg_1", "asked")


@pytest.mark.parametrize(
    "details",
    [
        [{**HIDDEN, "format": "openai-responses-v1"}],
        [HIDDEN],
        [{"type": "reasoning.summary", "summary": "hm"}],
    ],
)
def test_a_thought_beside_details_that_do_not_hold_its_words_is_told_in_a_stream(
    details: list[dict[str, Any]],
) -> None:
    """deepseek-responses-bc8fa7e143"""
    told = short(stream({"reasoning_content": "hm", "reasoning_details": details}))
    assert told[:2] == ["0 thinking", "0 +hm"]
    assert [one for one in told if one.endswith("+hm")] == ["0 +hm"]
