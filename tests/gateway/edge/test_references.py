"""Which objects bodies name, and which ids answers bring."""

from typing import Any

import orjson
import pytest

from gateway.core.failure import BadRequest
from gateway.edge.references import minted, minted_in, references, used

DEPTH = 200_000  # past what the readers of all Pythons go to


def named(body: Any) -> set[tuple[str, bool]]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return {(one.id, one.strict) for one in references(raw)}


def called(body: Any, dialect: str = "openai.chat") -> set[tuple[str, bool]]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return {(one.id, one.strict) for one in used(raw, orjson.loads(raw), dialect)}


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "a"},
        {"conversation": "a"},
        {"conversation": {"id": "a"}},
        {"input": [{"content": [{"type": "input_file", "file_id": "a"}]}]},
        {"input": [{"type": "item_reference", "id": "a"}]},
        {"input": [{"id": "a"}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["a"]}]},
        {"tools": [{"type": "code_interpreter", "container": "a"}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["a"]}}]},
        {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["a"]}]}}},
        {"training_file": "a"},
        {"validation_file": "a"},
        {"input_file_id": "a", "endpoint": "/v1/chat/completions"},
        {"data_source": {"source": {"type": "file_id", "id": "a"}}},
        {"prompt": {"id": "pmpt_1", "variables": {"x": {"type": "input_file", "file_id": "a"}}}},
        {"part_ids": ["a"]},
        {"cachedContent": "a"},
        {"video": {"id": "a"}},
        {"file_id": "a", "x": [[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]},
        b'{"file\\u005fid": "a"}',
        b'{"file_id": "\\u0061"}',
    ],
)
def test_every_place_of_a_body_that_names_an_object_counts(body: Any) -> None:
    assert named(body) == {("a", True)}


def test_both_of_two_members_with_one_name_count() -> None:
    assert named(b'{"previous_response_id": "a", "previous_response_id": "b"}') == {("a", True), ("b", True)}


def test_items_sent_back_need_not_be_known() -> None:
    body = {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}
    assert named(body) == {("rs_1", False)}


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"file_id": "a"}},
        {"client_metadata": {"thread_id": "01a2", "session_id": "01a2"}},  # Codex
        {"tools": [{"parameters": {"properties": {"file_id": {"type": "string", "default": "a"}}}}]},
        {"text": {"format": {"schema": {"file_ids": ["a"]}}}},
        {"container": "auto", "file_id": "", "previous_response_id": None},
        {"prompt": {"id": "pmpt_1"}},
        {"id": "a"},
        {"input": "my file_id is a"},
        {"input": [{"type": "function_call", "arguments": {"file_id": "a"}}]},
        {"input": [{"type": "local_shell_call", "action": {"env": {"container": "docker"}}}]},
        {
            "input": [
                {"type": "mcp_list_tools", "tools": [{"input_schema": {"examples": [{"file_id": "a"}]}}]}
            ]
        },
        {"tools": [{"parameters": {"examples": [{"file_id": "a"}]}}]},
        {"attributes": {"file_id": "a"}},
        {
            "data_source": {
                "source": {"type": "file_content", "content": [{"item": {"id": "q1"}, "sample": {"id": "s"}}]}
            }
        },
        {"data_source_config": {"item_schema": {"examples": [{"id": "a"}]}}},
    ],
)
def test_words_of_the_clients_own_are_no_ids(body: Any) -> None:
    assert named(body) == set()


def test_nesting_past_all_depth_is_refused() -> None:
    with pytest.raises(BadRequest):
        references(b'{"file_id":' * DEPTH + b"1" + b"}" * DEPTH)


def test_what_an_answer_cited_need_not_be_known_when_it_is_sent_back() -> None:
    cited = {"type": "container_file_citation", "container_id": "c", "file_id": "cfile_1"}
    body = {"input": [{"role": "assistant", "content": [{"type": "output_text", "annotations": [cited]}]}]}
    assert named(body) == {("c", False), ("cfile_1", False)}


def test_files_of_a_chat_are_found() -> None:
    body = orjson.dumps({"messages": [{"content": [{"type": "file", "file": {"file_id": "a"}}]}]})
    assert called(body) == {("a", True)}
    assert called(body.replace(b"file", b"fil\\u0065")) == {("a", True)}
    assert called(b'{"messages": []}') == set()
    with pytest.raises(BadRequest):
        used(b'{"file_id":' * DEPTH + b"1" + b"}" * DEPTH, {"file_id": {}}, "openai.chat")


BY_ID = {"type": "file", "file_id": "a"}


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai.chat", {"messages": [{"role": "tool", "content": [{"type": "file", "file": {"file_id": "a"}}]}]}),
        ("openai.chat", {"previous_response_id": "a"}),
        ("openai.chat", {"conversation": {"id": "a"}}),
        ("openai.chat", {"container": "a"}),
        ("openai.chat", {"cachedContent": "a"}),
        ("openai.chat", b'{"container": "a", "container": null}'),
        ("openai.chat", {"tools": [{"type": "file_search", "file_search": {"vector_store_ids": ["a"]}}]}),
        ("openai.chat", {"tools": [{"type": "code_interpreter", "code_interpreter": {"container": "a"}}]}),
        ("openai.chat", {"tools": [{"type": "shell", "shell": {"environment": {"container_id": "a"}}}]}),
        ("openai.chat", {"input": [{"type": "tool_use", "input": {"file_id": "a"}}]}),
        ("anthropic.messages", {"messages": [{"content": [{"type": "document", "source": BY_ID}]}]}),
        ("anthropic.messages", {"messages": [{"content": [{"type": "container_upload", "file_id": "a"}]}]}),
        (
            "anthropic.messages",
            {"messages": [{"content": [{"type": "tool_result", "content": [{"type": "image", "source": BY_ID}]}]}]},
        ),
        ("anthropic.messages", {"container": "a"}),
        ("anthropic.messages", {"container": {"id": "a", "skills": [{"type": "anthropic", "skill_id": "pptx"}]}}),
        ("anthropic.messages", {"container": {"skills": [{"type": "custom", "skill_id": "a"}]}}),
        ("anthropic.messages", b'{"container": {"skills": [{"type": "x", "type": "anthropic", "skill_id": "a"}]}}'),
        ("anthropic.count_tokens", {"container": "a"}),
        ("gemini.generate", {"cachedContent": "a"}),
        ("gemini.array", {"cached_content": "a"}),
        ("gemini.count_tokens", {"generateContentRequest": {"cachedContent": "a"}}),
        ("gemini.generate", {"tools": [{"fileSearch": {"fileSearchStoreNames": ["a"]}}]}),
    ],
)  # fmt: skip
def test_every_place_of_a_call_that_names_an_object_counts(dialect: str, body: Any) -> None:
    assert called(body, dialect) == {("a", True)}


OF_A_TOOL = {"file_id": "doc-7", "container": "c", "file_ids": ["x"]}


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai.chat", {"metadata": OF_A_TOOL}),
        ("openai.chat", {"tools": [{"function": {"parameters": {"examples": [OF_A_TOOL]}}}]}),
        ("openai.chat", {"response_format": {"json_schema": {"schema": {"default": OF_A_TOOL}}}}),
        ("openai.chat", {"messages": [{"content": "the file_id is a"}]}),
        ("openai.chat", {"audio": {"voice": "alloy", "format": "wav"}, "messages": [{"audio": "abc"}]}),
        ("anthropic.messages", {"messages": [{"content": [{"type": "tool_use", "input": OF_A_TOOL}]}]}),
        ("anthropic.count_tokens", {"messages": [{"content": [{"type": "mcp_tool_use", "input": OF_A_TOOL}]}]}),
        ("anthropic.messages", {"tools": [{"input_schema": {}, "input_examples": [OF_A_TOOL]}]}),
        ("gemini.generate", {"contents": [{"parts": [{"functionCall": {"args": OF_A_TOOL}}]}]}),
        ("gemini.array", {"contents": [{"parts": [{"functionResponse": {"response": OF_A_TOOL}}]}]}),
        ("gemini.generate", {"tools": [{"functionDeclarations": [{"parametersJsonSchema": OF_A_TOOL}]}]}),
        ("gemini.generate", {"generationConfig": {"responseSchema": {"example": OF_A_TOOL}}}),
    ],
)  # fmt: skip
def test_what_tools_are_given_and_schemas_say_are_no_ids(dialect: str, body: Any) -> None:
    assert called(body, dialect) == set()


def test_what_a_model_said_aloud_is_named_by_its_id() -> None:
    said = {"role": "assistant", "audio": {"id": "a"}}
    assert called({"messages": [said]}) == {("a", True)}
    whole = {"role": "assistant", "audio": {"id": "a", "data": "QUJD", "transcript": "hi", "expires_at": 1}}
    assert called({"messages": [whole]}) == {("a", False)}
    assert called(orjson.dumps({"messages": [said]}).replace(b"audio", b"\\u0061udio")) == {("a", True)}


STORE = "https://generativelanguage.googleapis.com/v1beta/files/ab-1"


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"fileData": {"fileUri": STORE}}, {("files/ab-1", True)}),
        ({"file_data": {"file_uri": STORE}}, {("files/ab-1", True)}),
        ({"fileData": {"fileUri": f"{STORE}/../ab-2"}}, {("files/ab-1/../ab-2", True)}),
        ({"functionResponse": {"parts": [{"fileData": {"fileUri": STORE}}]}}, {("files/ab-1", True)}),
        ({"image_url": {"url": STORE}}, {("files/ab-1", True)}),
        ({"file": {"file_id": STORE}}, {("files/ab-1", True)}),
        ({"file": {"file_data": STORE}}, {("files/ab-1", True)}),
        ({"fileData": {"fileUri": STORE.replace("googleapis", "GoogleAPIs")}}, {("files/ab-1", True)}),
        ({"fileData": {"fileUri": STORE.replace(".com/", ".com./")}}, {("files/ab-1", True)}),
        ({"fileData": {"fileUri": STORE.replace("//", "//storage.x@")}}, {("files/ab-1", True)}),
        ({"fileData": {"fileUri": "https://example.com/files/a"}}, set()),
        ({"fileData": {"fileUri": "https://storage.googleapis.com/bucket/files/a.png"}}, set()),
        ({"fileData": {"fileUri": "https://b.storage.googleapis.com/files/a.png"}}, set()),
        ({"fileData": {"fileUri": "gs://bucket/files/a"}}, set()),
        ({"text": STORE}, set()),
    ],
)
def test_files_in_geminis_own_store_are_found_in_whatever_dialect(
    part: dict[str, Any], found: set[tuple[str, bool]]
) -> None:
    body = orjson.dumps({"contents": [{"parts": [part]}]})
    assert called(body, "gemini.generate") == called(body) == named(body) == found
    escaped = body.replace(b"file", b"fil\\u0065")
    assert called(escaped, "gemini.generate") == found


def test_a_file_in_the_store_of_gemini_is_found_in_responses() -> None:
    shown = {"type": "input_image", "image_url": STORE}
    assert named({"input": [{"role": "user", "content": [shown]}]}) == {("files/ab-1", True)}


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"id": "a"}, ["a"]),
        ({"id": "a", "output_file_id": "b", "error_file_id": None}, ["a", "b"]),
        ({"id": "a", "conversation": {"id": "c"}}, ["a", "c"]),
        ({"id": "a", "file": {"id": "f"}}, ["a", "f"]),
        ({"id": "a", "output": [{"id": "m"}, {"id": "c", "container_id": "k"}]}, ["a", "m", "c", "k"]),
        ({"id": "a", "result_files": ["r"]}, ["a", "r"]),
        ({"id": "a", "choices": [{"message": {"audio": {"id": "s", "data": "QUJD"}}}]}, ["a", "s"]),
        (
            {"id": "a", "choices": [{"delta": {"audio": {"id": "s"}}}, {"delta": {"content": "x"}}]},
            ["a", "s"],
        ),
        (
            {
                "id": "msg",
                "container": {"id": "k", "expires_at": "2026"},
                "content": [
                    {"type": "tool_use", "id": "t", "input": {"file_id": "x"}},
                    {"type": "bash_code_execution_tool_result", "content": {"content": [{"file_id": "f"}]}},
                    {"type": "code_execution_tool_result", "content": {"error_code": "unavailable"}},
                ],
            },
            ["msg", "k", "f"],
        ),
        ({"id": "run_1", "object": "thread.run", "thread_id": "thread_1"}, ["run_1", "thread_1"]),
        ({"id": 7}, []),
        ([], []),
    ],
)
def test_ids_of_an_answer_are_found(answer: Any, ids: list[str]) -> None:
    assert minted(orjson.dumps(answer), nested=False) == ids


def test_parts_of_an_owned_object_are_found_in_lists_of_them_alone() -> None:
    body = orjson.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})
    assert minted(body, nested=True) == ["a", "b"]
    assert minted(body, nested=False) == []


def test_an_answer_that_is_cut_off_tells_the_id_at_its_beginning() -> None:
    body = orjson.dumps({"id": "resp_1", "object": "response", "output": [{"id": "x", "result": "y" * 999}]})
    assert minted(body[:500], nested=False) == ["resp_1"]
    assert minted(b"\x00not json", nested=False) == []


def test_ids_of_events_are_found() -> None:
    block = (
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
        b'data: {"type":"response.output_item.added","item":{"id":"m","container_id":"k"}}\n\n'
        b": a comment with an _id\n\ndata: [DONE]\n\n"
    )
    assert minted_in(block) == ["r", "m", "k"]


def test_ids_of_what_anthropics_code_execution_left_are_found_in_a_stream() -> None:
    result = {"type": "bash_code_execution_tool_result", "content": {"content": [{"file_id": "f"}]}}
    events = [
        {"type": "message_start", "message": {"id": "msg", "content": [], "container": None}},
        {"type": "content_block_start", "index": 0, "content_block": result},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t"}},
        {"type": "message_delta", "delta": {"container": {"id": "k"}, "stop_reason": "end_turn"}},
    ]
    block = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
    assert minted_in(block) == ["msg", "f", "k"]
