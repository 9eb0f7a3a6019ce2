"""Chat on one side of a crossing: what its relatives write, told as OpenAI would, and the other way round."""

from typing import Any

import orjson
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes, Quirks
from gateway.wire.hub import ChatBack, ChatFront, ChatReader
from gateway.wire.refusals import Refusals
from gateway.wire.sse import BadStream
from tests.scripted import DONE, FINISH, event, word

BACK, FRONT = ChatBack(), ChatFront()
STREAMS_USAGE = {"stream_options": {"include_usage": True}}


def read(*events: bytes) -> tuple[list[Any], ChatReader]:
    reader = ChatReader()
    return [piece for one in events for piece in reader.feed(one)], reader


def delta(**delta: Any) -> bytes:
    return event(id="c", choices=[{"index": 0, "delta": delta}])


def calls(*found: dict[str, Any]) -> bytes:
    return delta(tool_calls=list(found))


# A chat client


def test_a_chat_call_is_the_house_language_already_but_an_object_of_its_own() -> None:
    payload = {"model": "m", "messages": []}
    chat = FRONT.to_chat(payload, Refusals("chat", None))
    assert chat == payload
    assert chat is not payload


def test_a_completion_gets_the_members_that_openais_has() -> None:
    told = FRONT.writer({}, 17).whole({"id": "a", "choices": []})
    assert told == {"object": "chat.completion", "created": 17, "id": "a", "choices": []}


def test_each_chunk_bears_the_id_and_model_that_came_once() -> None:
    writer = FRONT.writer({}, 17)
    assert writer.write({"id": "a", "model": "m", "choices": [], "usage": {"prompt_tokens": 1}}) == b""
    assert orjson.loads(writer.write({"choices": [{"index": 0}]})[6:]) == {
        "object": "chat.completion.chunk",
        "created": 17,
        "id": "a",
        "model": "m",
        "choices": [{"index": 0}],
    }
    assert writer.end() == DONE


def test_usage_that_was_asked_for_is_null_until_the_last_chunk() -> None:
    writer = FRONT.writer(STREAMS_USAGE, 17)
    first = orjson.loads(writer.write({"choices": [{}], "usage": {"prompt_tokens": 1}})[6:])
    last = orjson.loads(writer.end().split(b"\n\n")[0][6:])
    assert (first["usage"], last["choices"], last["usage"]) == (None, [], {"prompt_tokens": 1})


def test_a_provider_that_counts_nothing_gives_no_chunk_of_usage() -> None:
    assert FRONT.writer(STREAMS_USAGE, 17).end() == DONE


def test_an_error_in_a_stream_has_the_four_members_of_openais() -> None:
    told = FRONT.writer({}, 0).write({"error": {"message": "no", "type": "api_error"}})
    assert orjson.loads(told[6:]) == {
        "error": {"param": None, "code": None, "message": "no", "type": "api_error"}
    }


@pytest.mark.parametrize(
    ("status", "given", "kind"),
    [(400, {"type": "own"}, "own"), (429, {}, "rate_limit_error"), (401, {}, "invalid_request_error"),
     (422, {}, "invalid_request_error"), (500, {}, "api_error")],
)  # fmt: skip
def test_a_refusal_without_a_type_gets_the_one_of_its_status(
    status: int, given: dict[str, Any], kind: str
) -> None:
    assert orjson.loads(FRONT.refusal(status, "no", given))["error"]["type"] == kind


def test_citations_that_come_bit_by_bit_are_gathered_by_openais_sdk() -> None:
    writer, state = FRONT.writer({"model": "m"}, 17), ChatCompletionStreamState()
    words: list[Any] = [
        {"content": "a"},
        {"annotations": [{"n": 1}]},
        {"content": "b"},
        {"annotations": [{"n": 2}]},
    ]
    ends: list[Any] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    pieces = [*([{"index": 0, "delta": one, "finish_reason": None}] for one in words), ends]
    told = b"".join(writer.write({"id": "c", "choices": choices}) for choices in pieces) + writer.end()
    for chunk in told.split(b"\n\n")[:-2]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(chunk[6:]))
    message = state.get_final_completion().choices[0].message.model_dump()
    assert (message["content"], [one["n"] for one in message["annotations"]]) == ("ab", [1, 2])


def test_citations_behind_an_end_or_without_one_are_told_before_the_last_word() -> None:
    writer = FRONT.writer({}, 17)
    writer.write({"choices": [{"index": 1, "delta": {"annotations": [{"n": 1}]}}]})
    told, done, _ = writer.end().split(b"\n\n")
    lists = {"annotations": [{"n": 1}]}
    assert orjson.loads(told[6:])["choices"] == [{"index": 1, "delta": lists, "finish_reason": None}]
    assert (done + b"\n\n", writer.end()) == (DONE, DONE)


# A chat provider: calls


def test_the_output_bound_has_the_providers_name_and_stands_once() -> None:
    chat = {"messages": [], "max_completion_tokens": 9, "max_tokens": 8}
    assert BACK.from_chat(chat, Changes("m", cap_name="max_tokens")) == {"messages": [], "max_tokens": 9}
    assert BACK.from_chat({"messages": [], "max_tokens": 8}, Changes("m")) == {
        "messages": [],
        "max_tokens": 8,
    }


def test_defaults_give_way_to_what_the_call_says() -> None:
    chat = {"messages": [], "temperature": 0}
    assert BACK.from_chat(chat, Changes("m", params={"temperature": 1, "user": "u"})) == {
        "messages": [],
        "temperature": 0,
        "user": "u",
    }


def test_what_chat_has_no_field_for_is_kept_from_chat_providers() -> None:
    message = {"role": "assistant", "content": "x", "reasoning_content": "t", "reasoning_details": []}
    sent = BACK.from_chat({"messages": [message]}, Changes("m"))
    assert sent["messages"] == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize(
    ("quirks", "kept"),
    [
        (Quirks(thought="reasoning_content"), {"reasoning_content": "t"}),
        (Quirks(thought="reasoning"), {"reasoning": "t"}),
        (Quirks(signed=True), {"reasoning_details": [{}]}),
    ],
)
def test_thoughts_go_back_to_those_who_want_them_by_the_name_they_want(
    quirks: Quirks, kept: dict[str, Any]
) -> None:
    thought = {
        "role": "assistant",
        "content": "x",
        "reasoning_content": "t",
        "reasoning_details": [{"after": [1, 0]}],
    }
    chat = {"messages": [thought, {"role": "user", "content": "y"}]}
    sent = BACK.from_chat(chat, Changes("m", quirks=quirks))["messages"]
    assert sent == [{"role": "assistant", "content": "x", **kept}, {"role": "user", "content": "y"}]


def test_places_of_words_behind_calls_are_kept_from_chat_on_both_sides() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "abc", "tool_calls": [{**call, "after": 1}]}
    sent = BACK.from_chat({"messages": [message]}, Changes("m"))
    assert sent["messages"] == [{**message, "tool_calls": [call]}]
    told = FRONT.writer({}, 1).whole({"choices": [{"message": message}]})
    assert told["choices"][0]["message"]["tool_calls"] == [call]


def test_whoever_gives_usage_unasked_is_not_asked() -> None:
    chat = {"messages": [], **STREAMS_USAGE}
    assert BACK.from_chat(chat, Changes("m", quirks=Quirks(gives_usage=True))) == {"messages": []}


def test_a_field_that_the_provider_refuses_is_refused_by_name_or_left_out() -> None:
    quirks = Quirks(refuses=frozenset({"logit_bias", "user", "seed"}))
    chat = {"messages": [], "logit_bias": {"1": 2}, "user": "u"}
    with pytest.raises(BadRequest) as caught:
        BACK.from_chat(chat, Changes("m", quirks=quirks))
    assert caught.value.param == "logit_bias"
    dropped: list[str] = []
    assert BACK.from_chat(chat, Changes("m", dropped=dropped, quirks=quirks)) == {"messages": []}
    assert dropped == ["logit_bias"]


def test_a_bound_on_drawing_that_the_provider_does_not_know_is_left_out_and_named() -> None:
    left: list[str] = []
    changes = Changes("m", quirks=Quirks(refuses=frozenset({"top_k"})), left_out=left)
    assert BACK.from_chat({"messages": [], "top_k": 64}, changes) == {"messages": []}
    assert left == ["top_k"]


def test_texts_become_one_where_lists_are_refused() -> None:
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    picture = [*texts, {"type": "image_url", "image_url": {"url": "u"}}]
    chat = {"messages": [{"role": "user", "content": one} for one in (texts, picture, "c")]}
    sent = BACK.from_chat(chat, Changes("m", quirks=Quirks(flat=True)))["messages"]
    assert [message["content"] for message in sent] == ["a\nb", picture, "c"]


def test_ids_of_calls_have_the_length_that_the_provider_takes() -> None:
    calls = [{"id": one, "function": {"name": "f"}} for one in ("toolu_01ABCDEF", "gRgYUmPLP")]
    chat = {"messages": [{"role": "assistant", "tool_calls": calls},
                         *({"role": "tool", "tool_call_id": call["id"]} for call in calls)]}  # fmt: skip
    asked, first, second = BACK.from_chat(chat, Changes("m", quirks=Quirks(ident=9)))["messages"]
    made, kept = [call["id"] for call in asked["tool_calls"]]
    assert (len(made), made.isalnum(), kept) == (9, True, "gRgYUmPLP")
    assert [first["tool_call_id"], second["tool_call_id"]] == [made, kept]
    assert calls[0]["id"] == "toolu_01ABCDEF"
    assert BACK.from_chat(chat, Changes("m"))["messages"] == chat["messages"]


# A chat provider: answers


@pytest.mark.parametrize(
    ("message", "content", "thought"),
    [
        ({"content": "a", "reasoning_content": "t"}, "a", "t"),
        ({"content": "a", "reasoning": "t"}, "a", "t"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}, 7]},
                      {"type": "text", "text": "a"}, {"type": "reference"}, 7]}, "a", "t"),
        ({"content": [{"type": "thinking", "thinking": "t"}]}, "", "t"),
        ({"content": None}, None, None),
    ],
)  # fmt: skip
def test_reasoning_has_one_name_and_content_is_text(message: Any, content: Any, thought: Any) -> None:
    told = BACK.completion({"choices": [{"message": message}]})["choices"][0]["message"]
    assert (told["content"], told.get("reasoning_content")) == (content, thought)


def test_a_call_without_an_id_gets_one_that_its_result_can_name() -> None:
    message = {"tool_calls": [{"function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}]}
    told = BACK.completion({"id": "c", "choices": [{"message": message}]})["choices"][0]["message"]
    assert [call["id"] for call in told["tool_calls"]] == ["c-0", "b"]


@pytest.mark.parametrize("answer", [[], {}, {"choices": 7}, {"choices": []}])
def test_an_answer_without_choices_is_none(answer: Any) -> None:
    with pytest.raises(BadStream):
        BACK.completion(answer)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"message": "no", "type": "t", "param": "p", "code": 5}}',
         {"message": "no", "type": "t", "param": "p", "code": "5"}),
        (b'{"message": "no"}', {"message": "no", "type": None, "param": None, "code": None}),
        (b'{"detail": "Invalid API Key"}', {"message": "Invalid API Key", "type": None, "param": None, "code": None}),
        (b'{"detail": [{"loc": 1}]}',
         {"message": '{"detail":[{"loc":1}]}', "type": None, "param": None, "code": None}),
        (b'{"code": "invalid-argument", "error": "a text"}', {"message": "a text", "code": "invalid-argument"}),
        (b'["no"]', {"message": "['no']", "code": None}),
        (b"<html>", {"message": "the provider gave no reason"}),
        (b"", {"message": "the provider gave no reason"}),
    ],
)  # fmt: skip
def test_every_relatives_error_is_read(body: bytes, error: dict[str, Any]) -> None:
    """Mistral writes `detail`, xAI a text with the code beside it, vLLM the members without an envelope."""
    assert BACK.error(body) == error


# A chat provider: streams


def test_chunks_are_read_until_done() -> None:
    pieces, reader = read(word("a"), b": comment\n\n", FINISH, DONE)
    assert [piece["choices"][0]["delta"] for piece in pieces] == [{"content": "a"}, {}]
    assert reader.finished


def test_what_came_from_a_cache_is_told_where_openai_tells_it() -> None:
    counts = {"prompt_tokens": 9, "num_cached_tokens": 4}
    told = {**counts, "prompt_tokens_details": {"cached_tokens": 4}}
    [piece], _ = read(event(choices=[], usage=counts))
    answer = BACK.completion({"choices": [{"message": {"content": "a"}}], "usage": counts})
    assert (piece["usage"], answer["usage"]) == (told, told)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("eos", "stop"), ("eos_token", "stop"), ("model_length", "length"), ("insufficient_system_resource", "error"),
     ("tool_calls", "tool_calls"), ("new", "new"), (7, "7"), (None, None)],
)  # fmt: skip
def test_ends_have_openais_words_where_it_has_one(theirs: Any, ours: str | None) -> None:
    choice = {"index": 0, "finish_reason": theirs}
    told = ChatBack().completion({"choices": [{**choice, "message": {"content": "a"}}]})
    assert told["choices"][0]["finish_reason"] == ours
    [piece] = ChatReader().feed(event(choices=[{**choice, "delta": {}}]))
    assert piece["choices"][0]["finish_reason"] == ours
    assert piece["choices"][0].get("native_finish_reason") == (theirs and str(theirs))


def test_a_reason_that_is_none_yet_is_told_as_none() -> None:
    [piece] = ChatReader().feed(event(choices=[{"index": 0, "finish_reason": "null", "delta": {}}]))
    assert piece["choices"][0] == {"index": 0, "finish_reason": None, "delta": {}}


def test_usage_is_found_where_its_provider_puts_it() -> None:
    counts = {"prompt_tokens": 1}
    pieces, _ = read(event(choices=[], usage=counts), event(x_groq={"usage": counts}), event(x_groq="?"))
    assert [piece["usage"] for piece in pieces] == [counts, counts, None]


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: 7\n\n"])
def test_an_event_that_is_no_object_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(BadStream):
        ChatReader().feed(data)


def test_groqs_error_in_a_stream_is_an_error() -> None:
    told = b'event: error\ndata: {"error": {"message": "Failed to call a function", "code": "tool_use_failed"}}\n\n'
    [piece], _ = read(told)
    assert piece["error"]["code"] == "tool_use_failed"


def test_an_error_may_be_one_by_its_name_alone() -> None:
    [piece], _ = read(b'event: error\ndata: {"message": "boom"}\n\n')
    assert piece["error"]["message"] == "boom"


def test_an_error_may_be_an_object_of_its_own() -> None:
    [piece], _ = read(event(object="error", message="no such model", type="invalid_model", code=1500))
    told = {"message": "no such model", "type": "invalid_model", "param": None, "code": "1500"}
    assert piece["error"] == told


def test_calls_without_index_and_id_are_told_apart() -> None:
    whole = {"function": {"name": "f", "arguments": "{}"}}
    more = calls({"function": {"arguments": " "}}), calls({"index": 0, "id": "y"})
    pieces, _ = read(calls(whole, {"id": "x", **whole}), *more)
    found = [call for piece in pieces for call in piece["choices"][0]["delta"]["tool_calls"]]
    assert [(call["index"], call.get("id")) for call in found] == [(0, "c-0"), (1, "x"), (1, None), (0, "y")]


def test_pages_that_an_answer_numbers_are_its_citations() -> None:
    searched = [{"url": "https://a", "title": "A", "snippet": "of a"}, {"title": "of no address"}, 5]
    none = {"start_index": 0, "end_index": 0}
    pages = [
        {
            "type": "url_citation",
            "url_citation": {"url": "https://a", "title": "A", **none, "content": "of a"},
        }
    ]
    whole = {
        "choices": [{"message": {"content": "x[1]"}}],
        "search_results": searched,
        "citations": ["https://a"],
    }
    assert ChatBack().completion(whole)["choices"][0]["message"]["annotations"] == pages
    told = event(choices=[{"index": 0, "delta": {"content": "x[1]"}}], search_results=searched)
    ended = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], search_results=searched)
    first, last = (piece["choices"][0]["delta"] for piece in ChatReader().feed(told + ended))
    assert first == {"content": "x[1]"}, "they stand in every chunk, and are told once"
    assert last == {"annotations": pages}


def test_citations_of_its_own_come_before_the_pages_of_an_answer() -> None:
    own = [{"type": "url_citation", "url_citation": {"url": "https://b"}}]
    whole = {"choices": [{"message": {"annotations": own}}], "citations": ["https://a"]}
    assert ChatBack().completion(whole)["choices"][0]["message"]["annotations"] == own
    ended = event(choices=[{"delta": {"annotations": own}, "finish_reason": "stop"}], citations=["https://a"])
    [piece] = ChatReader().feed(ended)
    assert piece["choices"][0]["delta"]["annotations"] == own
    bare = {"choices": [{"message": {"annotations": []}}], "citations": ["https://a"]}
    [found] = ChatBack().completion(bare)["choices"][0]["message"]["annotations"]
    assert found["url_citation"] == {"url": "https://a", "title": "", "start_index": 0, "end_index": 0}


def test_calls_that_all_have_one_index_are_told_apart_by_their_ids() -> None:
    def call(ident: str | None, name: str | None, arguments: str) -> bytes:
        return calls({"index": 0, "id": ident, "function": {"name": name, "arguments": arguments}})

    pieces, _ = read(
        call("a", "f", "{"), call("a", "f", "}"), call("b", "g", "{"), call(None, None, "}"),
        call("a", "f", " "), call("new each time", None, " "),
    )  # fmt: skip
    found = [call for piece in pieces for call in piece["choices"][0]["delta"]["tool_calls"]]
    assert [call["index"] for call in found] == [0, 0, 1, 1, 0, 0]
