"""Calls as a chat client puts them: what leaves for Bedrock is what was recorded there, and nothing gets lost."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.base import Changes
from gateway.wire.converse.back import ConverseBack
from gateway.wire.converse.turns import FORMATS
from tests.contract.recorded import recorded, replayed, whole
from tests.contract.test_bedrock import before

Json = dict[str, Any]
MEDIA = {form: kind for formats in FORMATS.values() for kind, form in formats.items()}
ENDS = {"jpeg": "jpg", "three_gp": "3gp"}
CONFIG = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}


class Unsayable(Exception):
    """Chat has no words for it."""


def chat_of(body: Mapping[str, Any]) -> Json:
    """The chat call that asks for the same; written apart from the code under test."""
    chat: Json = {"messages": []}
    if system := body.get("system"):
        chat["messages"].append({"role": "system", "content": [part_of(one) for one in system]})
    for message in body["messages"]:
        chat["messages"] += user(message) if message["role"] == "user" else [assistant(message)]
    config = body.get("inferenceConfig", {})
    chat |= {ours: config[theirs] for ours, theirs in CONFIG.items() if theirs in config}
    if tools := body.get("toolConfig"):
        chat["tools"] = [tool_of(one["toolSpec"]) for one in tools["tools"]]
        if choice := tools.get("toolChoice"):
            [(kind, named)] = choice.items()
            chosen = {"any": "required", "auto": "auto", "tool": {"type": "function", "function": named}}
            chat["tool_choice"] = chosen[kind]
    if output := body.get("outputConfig"):
        schema = output["textFormat"]["structure"]["jsonSchema"]
        named = {**schema, "schema": orjson.loads(schema["schema"])}
        chat["response_format"] = {"type": "json_schema", "json_schema": named}
    taken = {"system", "messages", "inferenceConfig", "toolConfig", "outputConfig"}
    return chat | {name: value for name, value in body.items() if name not in taken}


def tool_of(spec: Json) -> Json:
    made = {name: spec[name] for name in ("name", "description", "strict") if name in spec}
    return {"type": "function", "function": made | {"parameters": spec["inputSchema"]["json"]}}


def user(message: Json) -> list[Json]:
    found: list[Json] = []
    parts: list[Json] = []
    for block in message["content"]:
        if "toolResult" in block:
            result = block["toolResult"]
            content = [part_of(one) for one in result["content"]]
            failed = {"is_error": True} if result.get("status") == "error" else {}
            found.append({"role": "tool", "tool_call_id": result["toolUseId"], "content": content, **failed})
        else:
            parts.append(part_of(block))
    return [*found, {"role": "user", "content": parts}] if parts else found


def assistant(message: Json) -> Json:
    made: Json = {"role": "assistant", "content": []}
    for block in message["content"]:
        if "toolUse" in block:
            use = block["toolUse"]
            function = {"name": use["name"], "arguments": orjson.dumps(use["input"]).decode()}
            call = {"id": use["toolUseId"], "type": "function", "function": function}
            made.setdefault("tool_calls", []).append(call)
        elif "reasoningContent" in block:
            said = block["reasoningContent"]
            if "redactedContent" in said:
                data = base64.b64decode(said["redactedContent"]).decode()
                detail = {"type": "reasoning.encrypted", "data": data}
            else:
                detail = {"type": "reasoning.text", **said["reasoningText"]}
            made.setdefault("reasoning_details", []).append({**detail, "format": "anthropic-claude-v1"})
        else:
            made["content"].append(part_of(block))
    return made


def part_of(block: Json) -> Json:
    [(kind, held)] = block.items()
    if kind == "text":
        return {"type": "text", "text": held}
    if kind not in ("image", "video", "document") or held.keys() - {"format", "source", "name"}:
        raise Unsayable(f"{kind} {sorted(held)}")
    [(source, data)] = held["source"].items()
    if source == "s3Location":
        url = data["uri"]
        if url.rpartition(".")[2] != ENDS.get(held["format"], held["format"]):
            raise Unsayable("an address that does not tell its format")
    elif source == "bytes":
        url = f"data:{MEDIA[held['format']]};base64,{data}"
    else:
        raise Unsayable(f"{kind} from {source}")
    if kind == "document":
        return {"type": "file", "file": {"filename": f"{held['name']}.{held['format']}", "file_data": url}}
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def plain(body: Json) -> Json:
    """Without what says nothing: empty objects, that a tool has succeeded, the blanks of a schema in a text."""
    kept = {name: value for name, value in body.items() if value not in ([], {})}
    if "outputConfig" in kept:
        schema = kept["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        schema["schema"] = orjson.loads(schema["schema"])
    for message in kept["messages"]:
        for block in message["content"]:
            if block.get("toolResult", {}).get("status") == "success":
                del block["toolResult"]["status"]
    return kept


async def test_a_chat_call_leaves_as_the_recorded_one(tmp_path: Path) -> None:
    same, unsaid = 0, []
    async with before(tmp_path) as (client, provider):
        for record in recorded("bedrock", "converse", "converse-stream"):
            body = orjson.loads(orjson.dumps(record["request"]["body"]))
            path = unquote(httpx.URL(record["request"]["url"]).raw_path.decode())
            try:
                chat = chat_of(body)
            except Unsayable as reason:
                unsaid.append(f"{record['id']}: {reason}")
                continue
            provider.script[:] = [replayed({**record, "streaming": False}, whole(record))]
            model, operation = path.removeprefix("/model/").rsplit("/", 1)
            asks = {**chat, "model": model, "stream": operation == "converse-stream"}
            came = await client.post("/v1/chat/completions", json=asks)
            assert provider.asked, (record["id"], came.text)
            asked = provider.asked.pop()
            assert unquote(asked.line) == f"POST {path} HTTP/1.1"
            assert plain(asked.json) == plain(body), record["id"]
            same += 1
    assert same >= 134, unsaid


TEXT = st.text("abc é\U0001f600", min_size=1, max_size=9)
OBJECT = st.dictionaries(
    st.text(max_size=4), st.integers(-9, 9) | TEXT | st.booleans() | st.none(), max_size=3
)
PARTS = TEXT.map(lambda said: {"type": "text", "text": said}) | st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "s3://bucket/key.png"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    ]
)


def named(part: Json, name: str) -> Json:
    """No two documents of a call have the same name at Bedrock."""
    return {**part, "file": {"filename": f"{name}.pdf", **part["file"]}} if "file" in part else part


SIGNED = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"}
HIDDEN = {"type": "reasoning.encrypted", "data": "EuQFCk", "format": "anthropic-claude-v1"}


@st.composite
def chats(draw: Any) -> Json:
    messages: list[Json] = [{"role": "system", "content": [{"type": "text", "text": draw(TEXT)}]}]
    for turn in range(draw(st.integers(1, 3))):
        parts = enumerate(draw(st.lists(PARTS, min_size=1, max_size=3)))
        shown = [named(part, f"Q{turn}-{place}") for place, part in parts]
        messages.append({"role": "user", "content": shown})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": draw(TEXT)}]})
        if details := draw(st.lists(st.sampled_from([SIGNED, HIDDEN]), max_size=2)):
            messages[-1]["reasoning_details"] = details
        for place, arguments in enumerate(draw(st.lists(OBJECT, max_size=2))):
            function = {"name": "f", "arguments": orjson.dumps(arguments).decode()}
            call = {"id": f"c{turn}-{place}", "type": "function", "function": function}
            messages[-1 - place].setdefault("tool_calls", []).append(call)
            result = {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": [{"type": "text", "text": draw(TEXT)}],
            }
            messages.append(result | draw(st.sampled_from([{}, {"is_error": True}])))
    chat: Json = {"messages": messages}
    for name, values in FIELDS.items():
        if draw(st.booleans()):
            chat[name] = draw(values)
    if draw(st.booleans()) or any("tool_calls" in message for message in messages):
        chat["tools"] = [tool_of(SPEC)]
        chosen = {"type": "function", "function": {"name": "f"}}
        if choice := draw(st.sampled_from(["auto", "required", chosen, None])):
            chat["tool_choice"] = choice
    return chat


SPEC = {"name": "f", "description": "d", "strict": True, "inputSchema": {"json": {"type": "object"}}}
SCHEMA = {"name": "a", "description": "d", "schema": {"type": "object"}}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 9), "temperature": st.floats(0, 2), "top_p": st.floats(0, 1),
    "stop": st.lists(TEXT, min_size=1, max_size=2), "requestMetadata": st.just({"k": "v"}),
    "response_format": st.just({"type": "json_schema", "json_schema": SCHEMA}),
}  # fmt: skip


@given(chat=chats())
def test_a_chat_call_comes_back_from_converse_as_it_went(chat: Json) -> None:
    body = ConverseBack().from_chat({"model": "anthropic.claude-x", **chat}, Changes("m"))
    assert chat_of(orjson.loads(orjson.dumps(body))) == chat


@st.composite
def answers(draw: Any) -> list[Json]:
    """What a Claude may have said: thoughts, words, calls."""
    signed = {"reasoningContent": {"reasoningText": {"text": draw(TEXT), "signature": "s"}}}
    hidden = {"reasoningContent": {"redactedContent": base64.b64encode(b"EuQFCk").decode()}}
    blocks: list[Json] = [
        *draw(st.lists(st.sampled_from([signed, hidden]), max_size=2)),
        {"text": draw(TEXT)},
    ]
    uses = [
        {"toolUseId": f"t{place}", "name": "f", "input": given}
        for place, given in enumerate(draw(st.lists(OBJECT, max_size=2)))
    ]
    return [*blocks, *({"toolUse": use} for use in uses)]


@given(said=answers())
def test_what_converse_said_goes_back_as_it_came(said: list[Json]) -> None:
    """Over a chat client's turn: thoughts with their signatures, encrypted ones, words and calls."""
    told = {"output": {"message": {"role": "assistant", "content": said}}, "stopReason": "end_turn"}
    message = ConverseBack().completion(told)["choices"][0]["message"]
    body = ConverseBack().from_chat({"messages": [{"role": "user", "content": "hi"}, message]}, Changes("m"))
    assert body["messages"][1]["content"] == said
