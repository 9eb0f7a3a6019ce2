"""A chat call as Anthropic takes it, and its whole answer as a chat completion."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire import sse
from gateway.wire.base import Changes
from gateway.wire.fields import arguments, member, members, text
from gateway.wire.idents import fitted
from gateway.wire.lacks import OF_CHAT_ALONE, OF_KEEPING, Lacks
from gateway.wire.messages.reader import MessagesReader
from gateway.wire.messages.thinking import drop_sampling, is_unthought, set_effort, takes_effort
from gateway.wire.messages.tools import set_tools
from gateway.wire.messages.words import FORMAT, IDENT, SAID_NOTHING, chat_usage, finish
from gateway.wire.reason import NO_REASON, reason
from gateway.wire.refusals import Refusals
from gateway.wire.schemas import closed
from gateway.wire.sides import Json
from gateway.wire.thoughts import after_all, cuts, in_order, say

DEFAULT_OUTPUT = 4096  # tokens, where the call sets no bound: every Claude can write as many
THOUGHTFUL_OUTPUT = 32_000  # and as many every one that takes an effort; its thoughts count too
# Fields of chat that have another name or shape here.
_TURNED = frozenset(
    {"stream_options", "max_completion_tokens", "max_tokens", "user", "safety_identifier", "messages", "tools",
     "tool_choice", "parallel_tool_calls", "stop", "response_format", "reasoning_effort"}
)  # fmt: skip


class MessagesBack:
    def from_chat(self, chat: Json, changes: Changes) -> Json:
        refusals = Refusals("Anthropic's Messages", changes.dropped, changes.left_out)
        _LACKS.tell(chat, refusals)
        known = _TURNED | _LACKS.left_out | _LACKS.refused.keys()
        body: Json = {**changes.params}
        body |= {name: value for name, value in chat.items() if name not in known}
        cap = chat.get("max_completion_tokens") or chat.get("max_tokens")
        if cap is not None:
            body["max_tokens"] = cap
        body.setdefault("max_tokens", _default_output(chat))
        if user := chat.get("safety_identifier") or chat.get("user"):
            body["metadata"] = {"user_id": user}
            if chat.get("user") not in (None, user):
                refusals.leave_out("user")
        if stop := chat.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        _set_format(body, chat, refusals)
        set_tools(body, chat, refusals)
        system, body["messages"] = _Conversation(refusals).turns(chat["messages"])
        if system:
            body["system"] = system if len(system) > 1 or "cache_control" in system[0] else system[0]["text"]
        _set_thinking(body, chat, refusals)
        return body

    def completion(self, answer: Any) -> Json:
        if not isinstance(answer, dict) or not isinstance(answer.get("content"), list):
            raise sse.BadStream("the answer has no content")
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        for block in answer["content"]:
            _add_block(message, block)
        choice: Json = {
            "index": 0, "message": message, "logprobs": None, "finish_reason": finish(answer.get("stop_reason"))
        }  # fmt: skip
        if answer.get("stop_sequence") is not None:
            choice["stop_reason"] = answer["stop_sequence"]
        usage = answer.get("usage")
        found: Json = {"id": answer.get("id", ""), "model": answer.get("model", ""), "choices": [choice]}
        return {**found, "usage": chat_usage(usage)} if isinstance(usage, dict) else found

    def reader(self) -> MessagesReader:
        return MessagesReader()

    def error(self, body: bytes) -> Json:
        try:
            told = orjson.loads(body)
            error = told["error"]
            return {"message": str(error["message"]), "type": error.get("type"), "param": None, "code": None}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return {"message": reason(body) or NO_REASON}


def _default_output(chat: Json) -> int:
    thinks = (chat.get("reasoning_effort") or "none") != "none" and takes_effort(text(chat, "model"))
    return THOUGHTFUL_OUTPUT if thinks else DEFAULT_OUTPUT


def _set_thinking(body: Json, chat: Json, refusals: Refusals) -> None:
    forced = member(body, "tool_choice").get("type") in ("any", "tool")
    unthought = is_unthought(
        body["messages"],
        lambda block: block["type"] == "tool_result",
        lambda block: block["type"] in ("thinking", "redacted_thinking"),
    )
    thinks = set_effort(body, chat, body["max_tokens"], refusals, forced=forced, unthought=unthought)
    drop_sampling(body, text(chat, "model"), refusals, thinks=thinks)


def _set_format(body: Json, chat: Json, refusals: Refusals) -> None:
    asked = member(chat, "response_format")
    if asked.get("type") == "json_schema":
        schema = member(asked, "json_schema", "response_format.").get("schema")
        made = {"type": "json_schema", "schema": closed(schema)}
        body["output_config"] = {**member(body, "output_config"), "format": made}
    elif asked.get("type", "text") != "text":
        refusals.add("response_format")


class _Conversation:
    """Turns must alternate: results of tools open the user's turn, as they come right after the calls."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals

    def turns(self, messages: Any) -> tuple[list[Json], list[Json]]:
        """(system blocks, turns). Raises BadRequest naming the message that cannot be carried."""
        system: list[Json] = []
        turns: list[Json] = []
        for place, message in enumerate(members(messages, "messages")):
            where, role = f"messages[{place}]", message.get("role")
            if role in ("system", "developer"):
                system += self._parts(message.get("content"), f"{where}.content")
            elif role == "user":
                _join(turns, "user", self._parts(message.get("content"), f"{where}.content"))
            elif role in ("tool", "function"):
                _join(turns, "user", [self._result(message, where)])
            elif role == "assistant":
                _join(turns, "assistant", self._said(message, where))
            else:
                raise BadRequest(
                    f"{where}.role is none that can be translated", code="invalid_value", param=where
                )
        return system, turns

    def _parts(self, content: Any, where: str) -> list[Json]:
        if isinstance(content, str):
            return [{"type": "text", "text": content}] if content else []
        blocks = []
        for place, part in enumerate(members(content, where)):
            block = _block(part, f"{where}[{place}].")
            if block is None:
                self._refusals.add(f"{where}[{place}]")
            elif block.get("text") != "":
                blocks.append(block | {name: part[name] for name in ("cache_control",) if name in part})
        return blocks

    def _result(self, message: Mapping[str, Any], where: str) -> Json:
        content = message.get("content")
        made: Json = {
            "type": "tool_result",
            "tool_use_id": fitted(message.get("tool_call_id") or message.get("name") or "", IDENT),
        }
        parts = content if isinstance(content, str) else self._parts(content, f"{where}.content")
        if parts or message.get("is_error"):
            made["content"] = parts or SAID_NOTHING
        return made | {name: message[name] for name in ("is_error", "cache_control") if name in message}

    def _said(self, message: Mapping[str, Any], where: str) -> list[Json]:
        details = members(message.get("reasoning_details"), f"{where}.reasoning_details")
        calls = members(message.get("tool_calls"), f"{where}.tool_calls")
        uses = [_use(call, f"{where}.tool_calls[{place}].") for place, call in enumerate(calls)]
        others = members(message.get("other_blocks"), f"{where}.other_blocks")
        apart = [dict(block) for block in others if _is_typed(block)]
        if message.get("refusal"):
            apart.insert(0, {"type": "text", "text": message["refusal"]})
        blocks: list[Json] = []
        for thoughts, words, used in in_order(details, message.get("content"), uses, cuts(calls)):
            blocks += [made for detail in thoughts if (made := _thought(detail))]
            blocks += [*self._parts(words, f"{where}.content"), *apart, *used]
            apart = []
        if legacy := member(message, "function_call", f"{where}."):
            blocks.append(_use({"id": legacy.get("name"), "function": legacy}, f"{where}."))
        return blocks


def _join(turns: list[Json], role: str, blocks: list[Json]) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _block(part: Mapping[str, Any], where: str) -> Json | None:
    """A content part; None where this format has no block for it."""
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"type": "text", "text": text(part, "text", where) or text(part, "refusal", where)}
    if kind == "image_url":
        url = part.get("image_url")  # a bare text at Mistral
        asked = (
            url
            if isinstance(url, str)
            else text(member(part, "image_url", where), "url", f"{where}image_url.")
        )
        return {"type": "image", "source": _source(asked)}
    file = member(part, "file", where)
    if kind == "file" and (data := text(file, "file_data", f"{where}file.")).startswith("data:"):
        made: Json = {"type": "document", "source": _source(data)}
        return made | ({"title": file["filename"]} if file.get("filename") else {})
    return None


def _source(url: str) -> Json:
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma and head.endswith(";base64"):
        return {"type": "base64", "media_type": head[5:-7], "data": data}
    return {"type": "url", "url": url}


def _use(call: Mapping[str, Any], where: str) -> Json:
    function = member(call, "function", where)
    given = arguments(function, f"{where}function.")
    return {
        "type": "tool_use",
        "id": fitted(call.get("id") or "", IDENT),
        "name": function.get("name") or "",
        "input": given,
    }


def _is_typed(block: Mapping[str, Any]) -> bool:
    return "type" in block  # Gemini's have none


def _thought(detail: Mapping[str, Any]) -> Json | None:
    """Thinking that was signed here goes back; without a signature, or with another provider's, it would be
    refused."""
    if detail.get("format") != FORMAT:
        return None
    if detail.get("type") == "reasoning.encrypted":
        return {"type": "redacted_thinking", "data": detail.get("data", "")}
    signature = detail.get("signature")
    return (
        {"type": "thinking", "thinking": detail.get("text") or "", "signature": signature}
        if signature
        else None
    )


# What changes nothing of an answer, only how it is kept, billed or shown, is left out.
_LACKS = Lacks(
    refused=OF_CHAT_ALONE,
    left_out=OF_KEEPING,
    takes={"reasoning_details": _thought, "other_blocks": _is_typed},
    words=frozenset({"filename", "is_error", "cache_control"}),
)  # fmt: skip


def _add_block(message: Json, block: Json) -> None:
    kind = block.get("type")
    if kind == "text":
        say(message, block.get("text", ""))
        if block.get("citations"):
            message.setdefault("annotations", []).extend(block["citations"])
    elif kind == "tool_use":
        function = {"name": block["name"], "arguments": orjson.dumps(block.get("input") or {}).decode()}
        call = {"id": block["id"], "type": "function", "function": function}
        message.setdefault("tool_calls", []).append(call)
    elif kind == "thinking":
        message["reasoning_content"] = message.get("reasoning_content", "") + block.get("thinking", "")
        _add_detail(message, {"type": "reasoning.text", "text": block.get("thinking", ""),
                              "signature": block.get("signature", "")})  # fmt: skip
    elif kind == "redacted_thinking":
        _add_detail(message, {"type": "reasoning.encrypted", "data": block.get("data", "")})
    else:
        message.setdefault("other_blocks", []).append(block)


def _add_detail(message: Json, detail: Json) -> None:
    details = message.setdefault("reasoning_details", [])
    details.append({**detail, **after_all(message), "format": FORMAT, "index": len(details)})
