"""A conversation with tools in two turns, as clients of each dialect lead it and as providers of each format see it."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import httpx
import orjson

from tests.contract.test_messages import events
from tests.gateway.wire.frames import event
from tests.scripted import Act, Asked, answer, stream

Json = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED = "What is the weather in Zürich, and what time is it?"
WEATHER, CLOCK = {"city": "Zürich", "days": 3}, dict[str, Any]()
RESULTS = ('{"sky":"clear"}', "12:00")


class Turn(NamedTuple):
    """What stands in a second turn. `calls` are (id, name, arguments), `results` (id, text), in their order; ids are ""
    where the format has none. `signed` are the signatures that came with the words they sign."""

    calls: list[tuple[str, str, Json]]
    results: list[tuple[str, str]]
    signed: list[str]


class Client(Protocol):
    def path(self, model: str, streamed: bool) -> str: ...

    def first(self, model: str, streamed: bool) -> Json: ...

    def said(self, came: httpx.Response, streamed: bool) -> Any:
        """The answer put together, in the shape in which this dialect takes it back."""
        ...

    def calls(self, said: Any) -> list[tuple[str, Json]]:
        """(name, arguments) of the calls in an answer."""
        ...

    def second(self, first: Json, said: Any) -> Json: ...


class Chat:
    def path(self, model: str, streamed: bool) -> str:
        return "/v1/chat/completions"

    def first(self, model: str, streamed: bool) -> Json:
        tools = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in NAMES]
        return {
            "model": model,
            "stream": streamed,
            "messages": [{"role": "user", "content": ASKED}],
            "tools": tools,
        }

    def said(self, came: httpx.Response, streamed: bool) -> Any:
        if not streamed:
            return came.json()["choices"][0]["message"]
        message: Json = {"role": "assistant", "content": ""}
        calls: dict[int, Json] = {}
        details: dict[int, Json] = {}
        for chunk in events(came.text):
            for choice in chunk["choices"]:
                delta = choice["delta"]
                message["content"] += delta.get("content") or ""
                for place, call in enumerate(delta.get("tool_calls") or []):
                    kept = calls.setdefault(
                        call.get("index", place), {"type": "function", "function": {"arguments": ""}}
                    )
                    given = kept["function"]["arguments"] + (call["function"].get("arguments") or "")
                    kept |= {name: value for name, value in call.items() if name not in ("index", "function")}
                    kept["function"] |= call["function"] | {"arguments": given}
                for detail in delta.get("reasoning_details") or []:
                    known = details.setdefault(detail["index"], {"text": ""})
                    known |= detail | {"text": known["text"] + (detail.get("text") or "")}
        return message | {"tool_calls": list(calls.values()), "reasoning_details": list(details.values())}

    def calls(self, said: Any) -> list[tuple[str, Json]]:
        return [
            (one["function"]["name"], orjson.loads(one["function"]["arguments"]))
            for one in said["tool_calls"]
        ]

    def second(self, first: Json, said: Any) -> Json:
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": text}
            for call, text in zip(said["tool_calls"], RESULTS, strict=True)
        ]
        return first | {"messages": [*first["messages"], said, *results]}


class Messages:
    def path(self, model: str, streamed: bool) -> str:
        return "/v1/messages"

    def first(self, model: str, streamed: bool) -> Json:
        tools = [{"name": name, "input_schema": SCHEMA} for name in NAMES]
        asked = {"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": ASKED}]}
        return {**asked, "stream": streamed, "tools": tools}

    def said(self, came: httpx.Response, streamed: bool) -> Any:
        if not streamed:
            return came.json()["content"]
        blocks: list[Json] = []
        for one in events(came.text):
            if one["type"] == "content_block_start":
                blocks.append({**one["content_block"], "json": ""})
            elif one["type"] == "content_block_delta":
                delta, block = one["delta"], blocks[one["index"]]
                for name in ("text", "thinking", "signature"):
                    block |= {name: block[name] + delta[name]} if name in delta else {}
                block["json"] += delta.get("partial_json", "")
        for block in blocks:
            given = block.pop("json")
            block |= {"input": orjson.loads(given or "{}")} if block["type"] == "tool_use" else {}
        return blocks

    def calls(self, said: Any) -> list[tuple[str, Json]]:
        return [(block["name"], block["input"]) for block in said if block["type"] == "tool_use"]

    def second(self, first: Json, said: Any) -> Json:
        ids = [block["id"] for block in said if block["type"] == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": one, "content": text}
            for one, text in zip(ids, RESULTS, strict=True)
        ]
        turns = [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
        return first | {"messages": [*first["messages"], *turns]}


class Gemini:
    def path(self, model: str, streamed: bool) -> str:
        method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return f"/v1beta/models/{model}:{method}"

    def first(self, model: str, streamed: bool) -> Json:
        declared = [{"name": name, "parametersJsonSchema": SCHEMA} for name in NAMES]
        contents = [{"role": "user", "parts": [{"text": ASKED}]}]
        return {"contents": contents, "tools": [{"functionDeclarations": declared}]}

    def said(self, came: httpx.Response, streamed: bool) -> Any:
        told = events(came.text) if streamed else [came.json()]
        contents = [one["content"] for answer in told for one in answer["candidates"] if "content" in one]
        return {"role": "model", "parts": [part for content in contents for part in content["parts"]]}

    def calls(self, said: Any) -> list[tuple[str, Json]]:
        calls = [part["functionCall"] for part in said["parts"] if "functionCall" in part]
        return [(one["name"], one["args"]) for one in calls]

    def second(self, first: Json, said: Any) -> Json:
        calls = [part["functionCall"] for part in said["parts"] if "functionCall" in part]
        responses = (orjson.loads(RESULTS[0]), {"output": RESULTS[1]})
        parts = [
            {"functionResponse": {"name": call["name"], "response": made, **named(call)}}
            for call, made in zip(calls, responses, strict=True)
        ]
        return first | {"contents": [*first["contents"], said, {"role": "user", "parts": parts}]}


class Responses:
    def path(self, model: str, streamed: bool) -> str:
        return "/v1/responses"

    def first(self, model: str, streamed: bool) -> Json:
        tools = [{"type": "function", "name": name, "parameters": SCHEMA} for name in NAMES]
        asked = [{"role": "user", "content": ASKED}]
        return {"model": model, "stream": streamed, "store": False, "input": asked, "tools": tools}

    def said(self, came: httpx.Response, streamed: bool) -> Any:
        return (events(came.text)[-1]["response"] if streamed else came.json())["output"]

    def calls(self, said: Any) -> list[tuple[str, Json]]:
        calls = [item for item in said if item["type"] == "function_call"]
        return [(one["name"], orjson.loads(one["arguments"])) for one in calls]

    def second(self, first: Json, said: Any) -> Json:
        ids = [item["call_id"] for item in said if item["type"] == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": one, "output": text}
            for one, text in zip(ids, RESULTS, strict=True)
        ]
        return first | {"input": [*first["input"], *said, *results]}


NAMES = ("weather", "clock")
AMAZONS = "application/vnd.amazon.eventstream"
CLIENTS: Mapping[str, Client] = {
    "openai.chat": Chat(),
    "anthropic.messages": Messages(),
    "gemini.generate": Gemini(),
    "openai.responses": Responses(),
}


def named(call: Json) -> Json:
    return {"id": call["id"]} if "id" in call else {}


# What providers answer first

COUNTS = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chat_answer(ids: tuple[str, str], streamed: bool) -> Act:
    """Both calls stream interleaved, as OpenAI does."""
    given = [json.dumps(one) for one in (WEATHER, CLOCK)]
    head: Json = {"id": "c", "model": "m", "created": 1}
    if not streamed:
        calls = [
            {"id": one, "type": "function", "function": {"name": name, "arguments": arguments}}
            for one, name, arguments in zip(ids, NAMES, given, strict=True)
        ]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return answer({**head, "object": "chat.completion", "choices": [choice], "usage": COUNTS})
    fragments: list[Json] = [
        {"index": place, "id": one, "type": "function", "function": {"name": name, "arguments": ""}}
        for place, (one, name) in enumerate(zip(ids, NAMES, strict=True))
    ]
    pieces = [(0, given[0][:9]), (1, given[1]), (0, given[0][9:])]
    fragments += [{"index": place, "function": {"arguments": text}} for place, text in pieces]
    choices: list[Json] = [
        {"index": 0, "delta": {"tool_calls": [one]}, "finish_reason": None} for one in fragments
    ]
    choices[0]["delta"] |= {"role": "assistant", "content": None}
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [{**head, "choices": [one]} for one in choices]
    chunks.append({**head, "choices": [], "usage": COUNTS})
    return stream(*(b"data: " + orjson.dumps(one) + b"\n\n" for one in chunks), b"data: [DONE]\n\n")


def mistral_answer(ids: tuple[str, str], streamed: bool) -> Act:
    """Calls come whole in one chunk, without type or index (mistral-chat_completions-0d7000c4e2)."""
    if not streamed:
        return chat_answer(ids, False)
    given = [json.dumps(one) for one in (WEATHER, CLOCK)]
    calls = [
        {"id": one, "function": {"name": name, "arguments": arguments}}
        for one, name, arguments in zip(ids, NAMES, given, strict=True)
    ]
    choice = {"index": 0, "delta": {"content": "", "tool_calls": calls}, "finish_reason": "tool_calls"}
    chunk = {"id": "c", "model": "m", "created": 1, "choices": [choice], "usage": COUNTS}
    return stream(b"data: " + orjson.dumps(chunk) + b"\n\n", b"data: [DONE]\n\n")


def messages_answer(ids: tuple[str, str], streamed: bool, *, framed: bool = False) -> Act:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    counts = {"input_tokens": 7, "output_tokens": 3}
    thought = {"type": "thinking", "thinking": "hm", "signature": SIGNED}
    calls = [
        {"type": "tool_use", "id": one, "name": name, "input": given}
        for one, name, given in zip(ids, NAMES, (WEATHER, CLOCK), strict=True)
    ]
    if not streamed:
        return answer({**head, "content": [thought, *calls], "stop_reason": "tool_use", "usage": counts})
    told: list[Json] = [{"type": "message_start", "message": {**head, "content": [], "usage": counts}}]
    empty = [{**thought, "thinking": "", "signature": ""}, *({**call, "input": {}} for call in calls)]
    deltas: list[list[Json]] = [
        [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": SIGNED}],
        [
            {"type": "input_json_delta", "partial_json": text}
            for text in ("", '{"city": "Zür', 'ich", "days": 3}')
        ],
        [{"type": "input_json_delta", "partial_json": ""}],
    ]
    for place, (block, parts) in enumerate(zip(empty, deltas, strict=True)):
        told.append({"type": "content_block_start", "index": place, "content_block": block})
        told += [{"type": "content_block_delta", "index": place, "delta": delta} for delta in parts]
        told.append({"type": "content_block_stop", "index": place})
    told.append(
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}
    )
    told.append({"type": "message_stop"})
    if framed:  # as Bedrock does
        frames = [event("chunk", bytes=b64encode(orjson.dumps(one)).decode(), p="ab") for one in told]
        return answer(b"".join(frames), content_type=AMAZONS)
    return stream(*(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in told))


def claude_answer(ids: tuple[str, str], streamed: bool) -> Act:
    """Bedrock's Claude: in Anthropic's words to clients of Messages, to all others in Converse's."""
    own, converse = messages_answer(ids, streamed, framed=True), converse_answer(ids, streamed)

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (converse if "/converse" in asked.line else own)(asked, writer)

    return act


def claude_turn(body: Json) -> Turn:
    return messages_turn(body) if "anthropic_version" in body else converse_turn(body)


def gemini_answer(ids: tuple[str, str], streamed: bool) -> Act:
    """Calls are never split, and need have no ids."""
    calls = [
        {"functionCall": {"name": name, "args": given, **({"id": one} if one else {})}}
        for one, name, given in zip(ids, NAMES, (WEATHER, CLOCK), strict=True)
    ]
    calls[0]["thoughtSignature"] = SIGNED  # type: ignore[assignment]
    counts = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
    head = {"responseId": "r", "modelVersion": "m", "usageMetadata": counts}
    if not streamed:
        candidate = {"content": {"role": "model", "parts": calls}, "finishReason": "STOP", "index": 0}
        return answer({"candidates": [candidate], **head})
    candidates: list[Json] = [{"content": {"role": "model", "parts": [call]}, "index": 0} for call in calls]
    candidates[-1]["finishReason"] = "STOP"
    told = [orjson.dumps({"candidates": [one], **head}) for one in candidates]
    return stream(*(b"data: %b\r\n\r\n" % one for one in told))


def responses_answer(ids: tuple[str, str], streamed: bool) -> Act:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SIGNED}
    given = [json.dumps(one) for one in (WEATHER, CLOCK)]
    calls: list[Json] = [
        {"type": "function_call", "id": f"fc_{name}", "call_id": one, "name": name, "arguments": arguments}
        for one, name, arguments in zip(ids, NAMES, given, strict=True)
    ]
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    counts = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    whole = {**head, "output": [thought, *calls], "usage": counts}
    if not streamed:
        return answer(whole)
    told: list[Json] = [{"type": "response.created", "response": {**head, "output": []}}]
    for place, item in enumerate([thought, *calls]):
        begun = {**item, "arguments": ""} if "arguments" in item else item
        told.append({"type": "response.output_item.added", "output_index": place, "item": begun})
        if "arguments" in item:
            pieces = (item["arguments"][:9], item["arguments"][9:])
            kind = {"type": "response.function_call_arguments.delta", "output_index": place}
            told += [{**kind, "delta": text} for text in pieces if text]
        told.append({"type": "response.output_item.done", "output_index": place, "item": item})
    told.append({"type": "response.completed", "response": whole})
    return stream(*(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in told))


def converse_answer(ids: tuple[str, str], streamed: bool) -> Act:
    """Frames of AWS where it is streamed; only blocks of tools have a start."""
    thought = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": SIGNED}}}
    uses: list[Json] = [
        {"toolUse": {"toolUseId": one, "name": name, "input": given}}
        for one, name, given in zip(ids, NAMES, (WEATHER, CLOCK), strict=True)
    ]
    counts = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
    if not streamed:
        output = {"message": {"role": "assistant", "content": [thought, *uses]}}
        return answer({"output": output, "stopReason": "tool_use", "usage": counts})
    told = [event("messageStart", role="assistant")]
    thoughts = [{"reasoningContent": one} for one in ({"text": "hm"}, {"signature": SIGNED})]
    told += [event("contentBlockDelta", contentBlockIndex=0, delta=one) for one in thoughts]
    told.append(event("contentBlockStop", contentBlockIndex=0))
    for place, use in enumerate((one["toolUse"] for one in uses), 1):
        start = {"toolUse": {name: use[name] for name in ("toolUseId", "name")}}
        given = json.dumps(use["input"])
        told.append(event("contentBlockStart", contentBlockIndex=place, start=start))
        told += [
            event("contentBlockDelta", contentBlockIndex=place, delta={"toolUse": {"input": text}})
            for text in (given[:9], given[9:])
        ]
        told.append(event("contentBlockStop", contentBlockIndex=place))
    told += [event("messageStop", stopReason="tool_use"), event("metadata", usage=counts)]
    return answer(b"".join(told), content_type=AMAZONS)


def cohere_answer(ids: tuple[str, str], streamed: bool) -> Act:
    """A stream's `tool_calls` is an object (cohere-chat_v2-3e6af009d2)."""
    calls: list[Json] = [
        {"id": one, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for one, name, given in zip(ids, NAMES, (WEATHER, CLOCK), strict=True)
    ]
    counts = {"tokens": {"input_tokens": 7, "output_tokens": 3}}
    end = {"finish_reason": "TOOL_CALL", "usage": counts}
    if not streamed:
        message = {"role": "assistant", "tool_plan": "I will look.", "tool_calls": calls}
        return answer({"id": "c", "message": message, **end})
    plan = {"message": {"tool_plan": "I will look."}}
    told: list[Json] = [
        {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}},
        {"type": "tool-plan-delta", "delta": plan},
    ]
    for place, call in enumerate(calls):
        given = call["function"]["arguments"]
        begun = {**call, "function": {**call["function"], "arguments": ""}}
        told.append({"type": "tool-call-start", "index": place, "delta": {"message": {"tool_calls": begun}}})
        for text in (given[:9], given[9:]):
            piece = {"message": {"tool_calls": {"function": {"arguments": text}}}}
            told.append({"type": "tool-call-delta", "index": place, "delta": piece})
        told.append({"type": "tool-call-end", "index": place})
    told.append({"type": "message-end", "delta": end})
    named = [b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in told]
    return stream(*named, b"data: [DONE]\n\n")


# What providers see second


def chat_turn(body: Json) -> Turn:
    calls = [call for message in body["messages"] for call in message.get("tool_calls") or []]
    results = [message for message in body["messages"] if message["role"] == "tool"]
    return Turn(
        [(one["id"], one["function"]["name"], orjson.loads(one["function"]["arguments"])) for one in calls],
        [(one["tool_call_id"], one["content"]) for one in results],
        [],
    )


def messages_turn(body: Json) -> Turn:
    blocks = [
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    return Turn(
        [(one["id"], one["name"], one["input"]) for one in blocks if one["type"] == "tool_use"],
        [(one["tool_use_id"], text_of(one["content"])) for one in blocks if one["type"] == "tool_result"],
        [one["signature"] for one in blocks if one["type"] == "thinking" and one["thinking"] == "hm"],
    )


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def converse_turn(body: Json) -> Turn:
    blocks = [block for message in body["messages"] for block in message["content"]]
    uses = [block["toolUse"] for block in blocks if "toolUse" in block]
    results = [block["toolResult"] for block in blocks if "toolResult" in block]
    thoughts = [block["reasoningContent"]["reasoningText"] for block in blocks if "reasoningContent" in block]
    return Turn(
        [(one["toolUseId"], one["name"], one["input"]) for one in uses],
        [(one["toolUseId"], _shown(one["content"])) for one in results],
        [one["signature"] for one in thoughts if one["text"] == "hm"],
    )


def _shown(content: Any) -> str:
    [block] = content
    return str(block["text"]) if "text" in block else orjson.dumps(block["json"]).decode()


def cohere_turn(body: Json) -> Turn:
    turn = chat_turn(body)
    results = [(called, text_of(content)) for called, content in turn.results]
    return turn._replace(results=results)


def responses_turn(body: Json) -> Turn:
    items = body["input"]
    return Turn(
        [
            (one["call_id"], one["name"], orjson.loads(one["arguments"]))
            for one in items
            if "arguments" in one
        ],
        [(one["call_id"], one["output"]) for one in items if one.get("type") == "function_call_output"],
        [one["encrypted_content"] for one in items if one.get("type") == "reasoning"],
    )


def gemini_turn(body: Json) -> Turn:
    parts = [part for content in body["contents"] for part in content["parts"]]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    assert [one["name"] for one in results] == [one["name"] for one in calls], "results name their function"
    return Turn(
        [(one.get("id", ""), one["name"], one.get("args") or {}) for one in calls],
        [(one.get("id", ""), _said(one["response"])) for one in results],
        [part["thoughtSignature"] for part in parts if "thoughtSignature" in part],
    )


def _said(response: Json) -> str:
    said: str = response["output"] if set(response) == {"output"} else orjson.dumps(response).decode()
    return said


SIGNED = "EqQBCgIYAhIkc2lnbmVkIGhlcmU="
