"""What a chat call says is the same after a way to Gemini's words and back."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.base import Changes
from gateway.wire.gemini.back import GeminiBack
from gateway.wire.gemini.front import GeminiFront
from gateway.wire.gemini.writer import GeminiWriter
from gateway.wire.refusals import Refusals

TEXT = st.text(min_size=1, max_size=20)
NAME = st.sampled_from(["f", "g"])
OBJECT = st.dictionaries(
    st.text(max_size=5), st.integers(-9, 9) | TEXT | st.booleans() | st.none(), max_size=3
)
SIGNATURE = st.sampled_from(["AAAA", "BBBB", "CC=="])


@st.composite
def assistants(draw: Any) -> dict[str, Any]:
    """What Gemini may have said: thoughts, words, calls, each perhaps signed."""
    parts: list[dict[str, Any]] = []
    if draw(st.booleans()):
        parts.append({"text": draw(TEXT), "thought": True, "thoughtSignature": draw(SIGNATURE)})
    if draw(st.booleans()):
        parts.append({"text": draw(TEXT)} | draw(st.sampled_from([{}, {"thoughtSignature": "TTTT"}])))
    for place in range(draw(st.integers(0 if parts else 1, 3))):
        call = {"name": draw(NAME), "args": draw(OBJECT)} | draw(st.sampled_from([{}, {"id": f"id{place}"}]))
        parts.append({"functionCall": call} | draw(st.sampled_from([{}, {"thoughtSignature": "UUUU"}])))
    return {"role": "model", "parts": parts}


@given(said=assistants(), results=st.lists(OBJECT, min_size=3, max_size=3))
def test_what_gemini_said_goes_back_as_it_came_with_its_results(said: Any, results: list[Any]) -> None:
    """Over chat and back: parts, signatures and ids; an id that was made for a call stays here."""
    answer = {"candidates": [{"content": said, "finishReason": "STOP"}], "responseId": "r"}
    message = GeminiBack().completion(answer)["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    tools = [
        {"role": "tool", "tool_call_id": call["id"], "content": orjson.dumps(result).decode()}
        for call, result in zip(calls, results, strict=False)
    ]
    asked = {"messages": [{"role": "user", "content": "hi"}, message, *tools]}
    contents = GeminiBack().from_chat(asked, Changes("m"))["contents"]
    assert contents[1] == said
    called = [part["functionCall"] for part in said["parts"] if "functionCall" in part]
    expected = [
        {"name": call["name"], "response": result} | ({"id": call["id"]} if "id" in call else {})
        for call, result in zip(called, results, strict=False)
    ]
    found = [part["functionResponse"] for part in contents[2]["parts"]] if called else []
    assert found == expected


@given(said=assistants())
def test_what_gemini_said_is_told_to_a_gemini_client_as_it_was(said: Any) -> None:
    answer = {"candidates": [{"content": said, "finishReason": "STOP"}], "responseId": "r"}
    told = GeminiWriter().whole(GeminiBack().completion(answer))["candidates"][0]["content"]
    for part in told["parts"]:
        if part.get("functionCall", {}).get("id", "").startswith("call_gem_"):
            del part["functionCall"]["id"]
    assert told == said


CALL = st.builds(lambda name, given: {"name": name, "arguments": orjson.dumps(given).decode()}, NAME, OBJECT)


@st.composite
def chats(draw: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw(TEXT)}]
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXT)})
        calls = [
            {"id": f"c{turn}.{place}", "type": "function", "function": call}
            for place, call in enumerate(draw(st.lists(CALL, max_size=2)))
        ]
        said = {"role": "assistant", "content": draw(TEXT)}
        messages.append(said | ({"tool_calls": calls} if calls else {}))
        for call in calls:
            content = orjson.dumps(draw(OBJECT)).decode()
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    chat: dict[str, Any] = {"messages": messages}
    for name, values in FIELDS.items():
        if draw(st.booleans()):
            chat[name] = draw(values)
    if draw(st.booleans()):
        functions = [{"name": name, "parameters": {"type": "object", "x": 1}} for name in ("f", "g")]
        chat["tools"] = [{"type": "function", "function": function} for function in functions]
        choice = draw(st.sampled_from(["auto", "none", "required", "f", None]))
        if choice is not None:
            named = {"type": "function", "function": {"name": "f"}}
            chat["tool_choice"] = named if choice == "f" else choice
    return chat


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "max_completion_tokens": st.integers(1, 9), "temperature": st.floats(0, 2), "top_p": st.floats(0, 1),
    "n": st.integers(1, 4), "seed": st.integers(0, 9), "stop": st.lists(TEXT, min_size=1, max_size=2),
    "presence_penalty": st.floats(0, 1), "frequency_penalty": st.floats(0, 1), "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 5), "reasoning_effort": st.sampled_from(["none", "low", "medium", "high"]),
    "response_format": st.just({"type": "json_object"}),
}  # fmt: skip


@given(chat=chats())
def test_a_chat_call_comes_back_from_gemini_as_it_went(chat: dict[str, Any]) -> None:
    body = GeminiBack().from_chat({"model": "gemini-2.5-pro", **chat}, Changes("m"))
    back = GeminiFront().to_chat(orjson.loads(orjson.dumps(body)), Refusals("chat", None))
    if "tools" in chat and chat.get("tool_choice") not in (None, "auto", "none", "required"):
        chat["tools"] = chat["tools"][:1]  # of one that is chosen the others need not be known
    assert back == chat
