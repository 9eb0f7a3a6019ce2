"""What a chat call says is the same after a way to another dialect's words and back, for conversations made up. (To
Gemini's: gateway/wire/gemini/test_round_trip.py; to Converse's, which no client speaks: test_bedrock_requests.py.)
"""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.base import Changes
from gateway.wire.messages.back import MessagesBack
from gateway.wire.messages.front import MessagesFront
from gateway.wire.refusals import Refusals
from gateway.wire.responses.back import ResponsesBack
from gateway.wire.responses.front import ResponsesFront

Json = dict[str, Any]
TEXT = st.text("abc é\U0001f600\n", min_size=1, max_size=12).filter(str.strip)
OBJECT = st.dictionaries(
    st.text(max_size=5), st.integers(-9, 9) | TEXT | st.booleans() | st.none(), max_size=3
)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PARTS = st.lists(
    TEXT.map(lambda said: {"type": "text", "text": said}) | st.just(IMAGE), min_size=2, max_size=3
)
TOOL: Json = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
}
NAMED = {"type": "function", "function": {"name": "f"}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 1), "top_p": st.floats(0, 1), "response_format": st.just(SCHEMA),
}  # fmt: skip


@st.composite
def chats(draw: Any, fields: dict[str, st.SearchStrategy[Any]], tool: Json = TOOL) -> Json:
    messages: list[Json] = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXT | PARTS)})
        given = draw(st.lists(OBJECT, max_size=2))
        said: Json = {"role": "assistant", "content": draw(TEXT)}
        if given:
            said["tool_calls"] = [
                {"id": f"c{turn}_{place}", "type": "function",
                 "function": {"name": "f", "arguments": orjson.dumps(one).decode()}}
                for place, one in enumerate(given)
            ]  # fmt: skip
        messages.append(said)
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)}
            for call in said.get("tool_calls", [])
        ]
    chat: Json = {"messages": messages, "max_completion_tokens": draw(st.integers(1, 9))}
    chat |= {name: draw(values) for name, values in fields.items() if draw(st.booleans())}
    if draw(st.booleans()):
        chat["tools"] = [tool]
        chat |= draw(
            st.sampled_from([{}, *({"tool_choice": one} for one in ("auto", "required", "none", NAMED))])
        )
        chat |= draw(st.sampled_from([{}, {"parallel_tool_calls": False}])) if "tool_choice" in chat else {}
    return chat


def there_and_back(back: Any, front: Any, chat: Json) -> Json:
    body = back.from_chat({"model": "m", **orjson.loads(orjson.dumps(chat))}, Changes("m"))
    told: Json = front.to_chat(orjson.loads(orjson.dumps(body)), Refusals("chat", None))
    return {name: value for name, value in told.items() if name not in ("model", "store")}


@given(chat=chats({**FIELDS, "stop": st.lists(TEXT, min_size=1, max_size=2)}))
def test_a_chat_call_comes_back_from_messages_as_it_went(chat: Json) -> None:
    assert there_and_back(MessagesBack(), MessagesFront(), chat) == chat


# A tool of Responses' is strict unless it says that it is not; one of chat's the other way about.
PLAIN = {**TOOL, "function": {**TOOL["function"], "strict": False}}


@given(chat=chats({**FIELDS, "reasoning_effort": st.sampled_from(["low", "medium", "high"])}, PLAIN))
def test_a_chat_call_comes_back_from_responses_as_it_went(chat: Json) -> None:
    assert there_and_back(ResponsesBack(), ResponsesFront(), chat) == chat
