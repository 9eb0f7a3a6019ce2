"""A chat call as Bedrock's Converse takes it, and its whole answer as a chat completion."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.wire import sse
from gateway.wire.base import Changes
from gateway.wire.converse.reader import ConverseReader
from gateway.wire.converse.turns import Turns, cache_point, is_own
from gateway.wire.converse.words import (
    citation,
    ending,
    hidden,
    is_call,
    is_claude,
    reasoning,
    thought,
    usage_of,
)
from gateway.wire.fields import member, members, text
from gateway.wire.lacks import OF_CALLERS, OF_CHAT_ALONE, Lacks, always
from gateway.wire.messages.thinking import drop_sampling, is_unthought, set_effort
from gateway.wire.reason import NO_REASON, reason
from gateway.wire.refusals import Refusals
from gateway.wire.schemas import closed
from gateway.wire.sides import Json
from gateway.wire.thoughts import after_all, say

# What changes nothing of an answer, only how it is kept, billed or shown, is left out.
_LACKS = Lacks(
    refused=OF_CHAT_ALONE,
    left_out=OF_CALLERS,
    takes={"reasoning_details": reasoning, "other_blocks": is_own, "cache_control": always},
    words=frozenset({"filename", "is_error", "cache_control", "description"}),
)  # fmt: skip
_TURNED = frozenset(
    {"model", "stream", "stream_options", "messages", "tools", "tool_choice", "parallel_tool_calls", "stop",
     "response_format", "reasoning_effort", "max_completion_tokens", "max_tokens", "temperature", "top_p"}
)  # fmt: skip
# Bedrock's own fields, for calls and params that know them. All others are the model's: it gets them as Bedrock
# passes on what it does not know itself.
OWN = frozenset(
    {"inferenceConfig", "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig",
     "outputConfig", "performanceConfig", "promptVariables", "requestMetadata", "serviceTier"}
)  # fmt: skip
_NOVA_EFFORTS = ("low", "medium", "high")
_PAST: Json = {
    "description": "No longer there. Do not call it.", "inputSchema": {"json": {"type": "object", "properties": {}}}
}  # fmt: skip


class ConverseBack:
    def from_chat(self, chat: Json, changes: Changes) -> Json:
        refusals = Refusals("Bedrock's Converse", changes.dropped, changes.left_out)
        _LACKS.tell(chat, refusals)
        asked = {**changes.params, **{name: value for name, value in chat.items() if value is not None}}
        body: Json = {name: value for name, value in asked.items() if name in OWN}
        turns = Turns(refusals)
        turns.take(chat["messages"])
        body["messages"] = turns.messages
        if turns.system:
            body["system"] = turns.system
        known = OWN | _TURNED | _LACKS.left_out | _LACKS.refused.keys()
        more = {name: value for name, value in asked.items() if name not in known}
        cap = _cap(chat) or _cap(changes.params)
        more |= _set_tools(body, asked, refusals, _called(turns.messages))
        _set_format(body, asked, refusals)
        thinks = _set_thinking(more, asked, cap, body, refusals)
        for fields in (asked, more):
            drop_sampling(fields, text(asked, "model"), refusals, thinks=thinks)
        config = _config(asked, cap)
        for name, made in (("inferenceConfig", config), ("additionalModelRequestFields", more)):
            if made:
                body[name] = {**member(body, name), **made}
        return body

    def completion(self, answer: Any) -> Json:
        output = answer.get("output") if isinstance(answer, dict) else None
        said = output.get("message") if isinstance(output, dict) else None
        if not isinstance(said, dict) or not isinstance(said.get("content"), list):
            raise sse.BadStream("the answer has no content")
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        for block in said["content"]:
            _add_block(message, block)
        choice = {"index": 0, "message": message, "logprobs": None, **ending(answer)}
        usage = answer.get("usage")
        return {"choices": [choice]} | ({"usage": usage_of(usage)} if isinstance(usage, dict) else {})

    def reader(self) -> ConverseReader:
        return ConverseReader()

    def error(self, body: bytes) -> Json:
        """Its type stands in a header; the status tells as much."""
        try:
            told = orjson.loads(body)
            return {"message": str(told.get("message") or told["Message"])}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return {"message": reason(body) or NO_REASON}


def _cap(fields: Mapping[str, Any]) -> Any:
    return fields.get("max_completion_tokens") or fields.get("max_tokens")


def _config(asked: Json, cap: Any) -> Json:
    stop = asked.get("stop") or None
    found = {
        "maxTokens": cap,
        "temperature": asked.get("temperature"),
        "topP": asked.get("top_p"),
        "stopSequences": [stop] if isinstance(stop, str) else stop,
    }
    return {name: value for name, value in found.items() if value is not None}


def _set_thinking(more: Json, asked: Json, cap: Any, body: Json, refusals: Refusals) -> bool:
    """Puts an effort into `more` as each maker's models take it, and says whether a Claude thinks by it."""
    effort, model = text(asked, "reasoning_effort") or "none", text(asked, "model")
    if is_claude(model):
        choice = member(member(body, "toolConfig"), "toolChoice")
        unthought = is_unthought(
            body["messages"], lambda block: "toolResult" in block, lambda block: "reasoningContent" in block
        )
        forced = bool(choice.keys() & {"any", "tool"})
        return set_effort(more, asked, cap, refusals, forced=forced, unthought=unthought)
    if effort == "none" or "thinking" in asked:
        return False
    if "amazon.nova" in model and effort in _NOVA_EFFORTS:
        more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": effort}
    elif "amazon." in model:
        refusals.add("reasoning_effort")
    else:
        more["reasoning_effort"] = effort  # gpt-oss and others that speak OpenAI's own language
    return False


def _set_format(body: Json, asked: Json, refusals: Refusals) -> None:
    wanted = member(asked, "response_format")
    if wanted.get("type") == "json_schema":
        schema = member(wanted, "json_schema", "response_format.")
        made = {name: schema[name] for name in ("name", "description") if schema.get(name) is not None}
        made["schema"] = orjson.dumps(closed(schema.get("schema")) or {}).decode()
        structure = {"type": "json_schema", "structure": {"jsonSchema": made}}
        body["outputConfig"] = {**member(body, "outputConfig"), "textFormat": structure}
    elif wanted.get("type", "text") != "text":
        refusals.add("response_format")


def _set_tools(body: Json, asked: Json, refusals: Refusals, called: list[str]) -> Json:
    """Returns what of it the model itself is to be told. A call whose history has calls must name tools: those that
    were `called` stand in where it has none."""
    tools: list[Json] = []
    for place, tool in enumerate(members(asked.get("tools"), "tools")):
        function = member(tool, "function", f"tools[{place}].")
        if "name" not in function:
            refusals.add(f"tools[{place}]")
            continue
        made = {name: function[name] for name in ("name", "description", "strict")
                if function.get(name) is not None}  # fmt: skip
        made["inputSchema"] = {"json": function.get("parameters") or {"type": "object", "properties": {}}}
        tools += [{"toolSpec": made}, *cache_point(tool)]
    choice = asked.get("tool_choice")
    if not called and (not tools or choice == "none"):
        return {}  # tools that must not be called are as good as none
    if not tools:
        body["toolConfig"] = {"tools": [{"toolSpec": {"name": name, **_PAST}} for name in called]}
        return {}
    body["toolConfig"] = {"tools": tools}
    if (made_choice := _choice(choice, refusals)) is not None:
        body["toolConfig"]["toolChoice"] = made_choice
    if asked.get("parallel_tool_calls") is not False:
        return {}
    if not is_claude(text(asked, "model")):
        refusals.add("parallel_tool_calls")
        return {}
    kind = next(iter(made_choice or {"auto": {}}))
    named = member(made_choice or {}, "tool")
    return {"tool_choice": {"type": kind, **named, "disable_parallel_tool_use": True}}


def _choice(asked: Any, refusals: Refusals) -> Json | None:
    if asked is None:
        return None
    if asked in ("auto", "required"):
        return {"any" if asked == "required" else asked: {}}
    name = member(asked, "function", "tool_choice.").get("name") if isinstance(asked, dict) else None
    if name is None:
        refusals.add("tool_choice")
        return None
    return {"tool": {"name": name}}


def _called(messages: list[Json]) -> list[str]:
    """The tools that were called, each once."""
    blocks = (block for message in messages for block in message["content"])
    return list(dict.fromkeys(block["toolUse"]["name"] for block in blocks if "toolUse" in block))


def _add_block(message: Json, block: Json) -> None:
    if "text" in block:
        say(message, block["text"])
    elif "citationsContent" in block:
        cited = block["citationsContent"]
        told = "".join(one.get("text", "") for one in cited.get("content") or [])
        say(message, told)
        message.setdefault("annotations", []).extend(citation(one) for one in cited.get("citations") or [])
    elif is_call(block):
        use = block["toolUse"]
        function = {"name": use["name"], "arguments": orjson.dumps(use.get("input") or {}).decode()}
        call = {"id": use["toolUseId"], "type": "function", "function": function}
        message.setdefault("tool_calls", []).append(call)
    elif "reasoningContent" in block:
        _add_thought(message, block["reasoningContent"])
    else:
        message.setdefault("other_blocks", []).append(block)


def _add_thought(message: Json, content: Json) -> None:
    details, place = message.setdefault("reasoning_details", []), after_all(message)
    if "reasoningText" in content:
        said = content["reasoningText"]
        message["reasoning_content"] = message.get("reasoning_content", "") + (said.get("text") or "")
        details.append(thought(said.get("text") or "", said.get("signature") or "", len(details)) | place)
    else:
        details.append(hidden(content.get("redactedContent") or "", len(details)) | place)
