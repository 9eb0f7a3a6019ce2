"""A call in Anthropic's Messages, as a chat call."""

from typing import Any

import orjson
import pytest

from gateway.core.failure import BadRequest
from gateway.wire.messages.front import MessagesFront
from gateway.wire.refusals import Refusals

FRONT = MessagesFront()
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBO"}
PDF = {"type": "document", "source": {**PNG, "media_type": "application/pdf"}}
PDF_PART = {
    "type": "file",
    "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,iVBO"},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}


def chat(**payload: Any) -> dict[str, Any]:
    return FRONT.to_chat({"model": "m", "messages": [], **payload}, Refusals("chat", None))


def said(*content: Any, role: str = "user") -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = chat(messages=[{"role": role, "content": one} for one in content])[
        "messages"
    ]
    return told


def refused(**payload: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        chat(**payload)
    assert caught.value.param is not None
    return caught.value.param


def test_a_call_with_all_its_settings() -> None:
    assert chat(
        max_tokens=9,
        system="be brief",
        messages=[{"role": "user", "content": "hi"}],
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        temperature=0.5,
        top_k=3,
        stream=True,
        service_tier="auto",
    ) == {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 9,
        "stop": ["END"],
        "user": "u",
        "temperature": 0.5,
        "top_k": 3,
    }


def test_a_user_of_a_long_name_has_one_that_all_take() -> None:
    named = {"device_id": "a" * 64, "account_uuid": "b" * 36, "session_id": "c" * 36}  # as Claude Code's
    long = chat(metadata={"user_id": orjson.dumps(named).decode()})["user"]
    assert len(long) == 64 and long.isalnum()
    other = chat(metadata={"user_id": orjson.dumps({**named, "session_id": "d"}).decode()})["user"]
    assert other != long
    assert chat(metadata={"user_id": "u" * 64})["user"] == "u" * 64
    assert "user" not in chat(metadata={"user_id": None})


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9000}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
        ({"thinking": {"type": "disabled", "budget_tokens": 1024}}, None),
        ({"thinking": {"type": "enabled"}}, None),
    ],
)
def test_a_budget_of_thoughts_is_the_effort_nearest_to_it(asked: dict[str, Any], effort: str | None) -> None:
    assert chat(**asked).get("reasoning_effort") == effort


@pytest.mark.parametrize(("required", "strict"), [(["a", "b"], True), (["a"], False)])
def test_a_schema_for_the_answer_is_chats_response_format(required: list[str], strict: bool) -> None:
    members = {"a": {"type": "string"}, "b": {"type": "string"}}
    schema = {"type": "object", "properties": members, "required": required, "additionalProperties": False}
    assert chat(output_config={"format": {"type": "json_schema", "schema": schema}})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": strict, "schema": schema},
    }


def test_tools_are_functions() -> None:
    tools = [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "g"},
    ]
    assert chat(tools=tools)["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
    ]


def test_what_anthropic_alone_knows_of_tools_is_told_once_for_all_of_them() -> None:
    left: list[str] = []
    tool = {"name": "f", "defer_loading": True, "input_examples": [{}], "eager_input_streaming": True}
    asked = {"model": "m", "messages": [], "tools": [tool, {**tool, "name": "g"}]}
    told = FRONT.to_chat(asked, Refusals("chat", None, left))["tools"]
    assert set(left) == {"tools.defer_loading", "tools.eager_input_streaming", "tools.input_examples"}
    assert [one["function"].keys() for one in told] == [{"name", "parameters"}] * 2


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"type": "none", "disable_parallel_tool_use": True}, {"tool_choice": "none", "parallel_tool_calls": False}),
    ],
)  # fmt: skip
def test_which_tool_must_be_called(choice: Any, told: dict[str, Any]) -> None:
    made = chat(tools=[{"name": "f"}], tool_choice=choice)
    assert {name: made[name] for name in ("tool_choice", "parallel_tool_calls") if name in made} == told


def test_a_system_prompt_of_several_blocks_stays_several() -> None:
    one, two = (
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    )
    assert chat(system=[one])["messages"][0]["content"] == "a"
    assert chat(system=[one, two])["messages"][0]["content"] == [one, {"type": "text", "text": "b"}]
    assert said("later", role="system") == [{"role": "system", "content": "later"}]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image", "source": PNG}, PNG_PART),
        ({"type": "image", "source": {"type": "url", "url": "https://a/b"}},
         {"type": "image_url", "image_url": {"url": "https://a/b"}}),
        ({"type": "document", "title": "t", "source": {**PNG, "media_type": "application/pdf"}},
         {"type": "file", "file": {"filename": "t", "file_data": "data:application/pdf;base64,iVBO"}}),
    ],
)  # fmt: skip
def test_pictures_and_documents_are_parts(block: Any, part: Any) -> None:
    assert said([{"type": "text", "text": "see"}, block]) == [
        {"role": "user", "content": [{"type": "text", "text": "see"}, part]}
    ]


def test_documents_of_plain_text_are_text() -> None:
    plain = {"type": "document", "source": {"type": "text", "data": "words"}}
    blocks = {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": "more"}]},
    }
    assert said([plain], [blocks]) == [
        {"role": "user", "content": "words"},
        {"role": "user", "content": "more"},
    ]


def test_what_is_told_of_a_document_goes_before_it() -> None:
    context = {"type": "text", "text": "of 1987"}
    plain = {"type": "document", "title": "Minutes", "source": {"type": "text", "data": "words"}}
    assert said([{**PDF, "context": "of 1987", "citations": {"enabled": False}}]) == [
        {"role": "user", "content": [context, PDF_PART]}
    ]
    assert said([{**plain, "context": "of 1987"}]) == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Minutes"}, context, {"type": "text", "text": "words"}],
        }
    ]


def test_tools_that_anthropic_has_defined_are_left_out_and_told_of() -> None:
    left_out: list[str] = []
    asked = {"messages": [], "tools": [SEARCH, {"name": "f"}], "tool_choice": {"type": "auto"}}
    made = FRONT.to_chat(asked, Refusals("chat", None, left_out))
    assert (left_out, len(made["tools"]), made["tool_choice"]) == (["tools[0]"], 1, "auto")


def test_before_a_fallback_what_cannot_be_carried_is_left_out_wherever_it_stands() -> None:
    dropped: list[str] = []
    picture = {"type": "image", "source": PNG}
    asked = {
        "container": "c",
        "system": [picture],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]},
            {"role": "user", "content": [{"type": "odd"}, {"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": [{"type": "server_tool_use"}, {"type": "text", "text": "a"}]},
        ],
        "tools": [SEARCH, {"name": "f"}],
        "tool_choice": {"type": "tool", "name": "web_search"},
    }
    made = FRONT.to_chat(asked, Refusals("chat", dropped, dropped))
    assert made["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]
    assert "tool_choice" not in made
    assert dropped == [
        "container", "system[0]", "messages[0].content[0]", "messages[1].content[0]", "messages[2].content[0]",
        "tools[0]", "tool_choice",
    ]  # fmt: skip


def test_results_of_tools_come_before_the_words_and_their_pictures_with_them() -> None:
    shown = [{"type": "text", "text": "a"}, {"type": "image", "source": PNG}, {"type": "text", "text": "b"}]
    results = [{"type": "tool_result", "tool_use_id": "t1", "content": shown},
               {"type": "tool_result", "tool_use_id": "t2", "content": "c"},
               {"type": "tool_result", "tool_use_id": "t3", "is_error": True}]  # fmt: skip
    tools = [{"role": "tool", "tool_call_id": name, "content": text} for name, text in
             (("t1", "a\nb"), ("t2", "c"), ("t3", ""))]  # fmt: skip
    tools[2]["is_error"] = True  # type: ignore[assignment]
    assert said([*results, {"type": "text", "text": "and?"}]) == [
        *tools,
        {"role": "user", "content": [PNG_PART, {"type": "text", "text": "and?"}]},
    ]
    assert said(results[1:]) == tools[1:]


def test_what_the_assistant_said_thought_and_called() -> None:
    assert said("yes", role="assistant") == [{"role": "assistant", "content": "yes"}]
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
    ]
    [message] = said(blocks, role="assistant")
    assert message == {
        "role": "assistant",
        "content": "ab",
        "reasoning_content": "hm",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1", "index": 1},
        ],
        "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"n": 100}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [SEARCH, {"name": "f"}], "tool_choice": {"type": "tool", "name": "web_search"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{**PDF, "citations": {"enabled": True}}]}]},
         "messages[0].content[0].citations"),
        ({"tools": [{}]}, "tools[0]"),
        ({"system": [{"type": "image", "source": PNG}]}, "system[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "narrator"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"thinking": "much"}, "thinking"),
    ],
)  # fmt: skip
def test_what_chat_has_no_word_for_is_refused_by_its_place(payload: dict[str, Any], field: str) -> None:
    assert refused(**payload) == field


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (422, "invalid_request_error"),
        (529, "overloaded_error"),
        (500, "api_error"),
    ],
)
def test_a_refusal_has_the_type_of_its_status(status: int, kind: str) -> None:
    told = orjson.loads(FRONT.refusal(status, "no", {}))
    assert told == {"type": "error", "error": {"type": kind, "message": "no"}}


@pytest.mark.parametrize("content", [[], [{"type": "thinking", "thinking": "hm", "signature": "s"}]])
def test_a_turn_of_thoughts_alone_has_words_all_the_same(content: Any) -> None:
    [message] = said(content, role="assistant")
    assert message["content"] == ""


def test_a_turn_of_calls_alone_has_none() -> None:
    [message] = said([{"type": "tool_use", "id": "t", "name": "f", "input": {}}], role="assistant")
    assert message["content"] is None


def left(**payload: Any) -> list[str]:
    found: list[str] = []
    FRONT.to_chat({"model": "m", "messages": [], **payload}, Refusals("chat", None, found))
    return found


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        ({"thinking": {"type": "adaptive"}}, ["thinking"]),
        ({"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}},
         ["thinking.display"]),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, []),
        ({"thinking": {"type": "disabled"}}, []),
        ({"metadata": {"user_id": "u", "team": "t"}}, ["metadata.team"]),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}, "task_budget": {"total": 9}}},
         ["output_config.task_budget"]),
    ],
)  # fmt: skip
def test_settings_that_chat_has_no_word_for_are_told(payload: dict[str, Any], names: list[str]) -> None:
    assert left(**payload) == names


def test_what_blocks_say_beside_is_told_once_for_all_of_its_kind() -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}, **marked}
    quiet = {"type": "document", "source": {"type": "text", "data": "d"}, "citations": {"enabled": False}}
    names = left(
        system=[{"type": "text", "text": "s", **marked}],
        messages=[
            {"role": "user", "content": [quiet]},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "a", "citations": [{"url": "u"}]}, use],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r", **marked}],
            },
        ],
    )
    assert list(dict.fromkeys(names)) == [
        "system.cache_control",
        "messages.citations",
        "messages.cache_control",
    ]


def test_one_answer_is_what_there_is() -> None:
    assert {"n", "best_of"}.isdisjoint(chat(n=1, best_of=1))
