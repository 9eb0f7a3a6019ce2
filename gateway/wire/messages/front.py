"""A call in Anthropic's Messages as a chat call, and a chat completion as its answer."""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire.fields import member, members, text
from gateway.wire.messages.tools import take_tools
from gateway.wire.messages.words import ERRORS, FORMAT, effort
from gateway.wire.messages.writer import MessagesWriter
from gateway.wire.overflow import CODE, OPENING
from gateway.wire.refusals import Refusals
from gateway.wire.schemas import is_strict
from gateway.wire.sides import Json
from gateway.wire.thoughts import say, unpacked

# Fields with a meaning of their own here; all others go on to the provider under their own names, but for those that
# only say how Anthropic is to keep, bill or trim.
_TURNED = frozenset(
    {"messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "thinking",
     "output_config", "model", "stream", "container", "mcp_servers", "n", "best_of"}
)  # fmt: skip
_LEFT_OUT = frozenset({"cache_control", "context_management", "service_tier", "inference_geo"})
_NOT_CARRIED = ("container", "mcp_servers", "n", "best_of")  # several answers are no word of Messages
# What chat has words for. All else is told once for all of its kind: some agents have hundreds of tools.
_OF_MESSAGES = frozenset({"role", "content"})
_OF_BLOCKS = frozenset(
    {"type", "text", "source", "title", "context", "id", "name", "input", "tool_use_id", "content", "is_error",
     "thinking", "signature", "data"}
)  # fmt: skip
_OF_DOCUMENTS = _OF_BLOCKS | {"citations"}
_HELD = {
    "metadata": frozenset({"user_id"}),
    "output_config": frozenset({"effort", "format"}),
    "thinking": frozenset({"type", "budget_tokens"}),
    "tool_choice": frozenset({"type", "name", "disable_parallel_tool_use"}),
}
_HELD_BY_OUTPUT = {"format": frozenset({"type", "schema"})}
_OF_SOURCES = frozenset({"type", "media_type", "data", "url", "content"})
# What chat's fields are called here.
_FIELDS = {
    "max_completion_tokens": "max_tokens", "stop": "stop_sequences", "user": "metadata.user_id",
    "reasoning_effort": "thinking", "response_format": "output_config.format",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "messages.reasoning_content": "messages.thinking", "messages.reasoning_details": "messages.thinking",
    "file.filename": "messages.title",
}  # fmt: skip
_INDEX = re.compile(r"\[(\d+)\]")


class MessagesFront:
    def to_chat(self, payload: Mapping[str, Any], refusals: Refusals) -> Json:
        refusals.fields |= _FIELDS
        for name in _NOT_CARRIED:
            if payload.get(name) and payload[name] != 1:  # one answer is what there is
                refusals.add(name)
        refusals.leave_out_of(payload, _LEFT_OUT)
        refusals.leave_out_within(payload, _HELD)
        chat: Json = {
            name: payload[name] for name in payload if name not in _TURNED and name not in _LEFT_OUT
        }
        chat["messages"] = _Conversation(refusals).messages(payload)
        if payload.get("max_tokens") is not None:
            chat["max_completion_tokens"] = payload["max_tokens"]
        if payload.get("stop_sequences"):
            chat["stop"] = payload["stop_sequences"]
        if user := text(member(payload, "metadata"), "user_id", "metadata."):
            chat["user"] = _short(user)
        if asked := _effort(payload, refusals):
            chat["reasoning_effort"] = asked
        output = member(payload, "output_config")
        refusals.leave_out_within(output, _HELD_BY_OUTPUT, "output_config.")
        if schema := member(output, "format", "output_config."):
            named = {
                "name": "answer",
                "strict": is_strict(schema.get("schema")),
                "schema": schema.get("schema"),
            }
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        take_tools(chat, payload, refusals)
        return chat

    def place(self, where: str) -> str:
        return _INDEX.sub(r".\1", where)

    def writer(self, asked: Mapping[str, Any], moment: int, ident: str = "") -> MessagesWriter:
        return MessagesWriter(f"msg_{ident}", asked.get("model", ""))

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        kind = ERRORS.get(status) or ("invalid_request_error" if status < 500 else "api_error")
        if error.get("code") == CODE and OPENING not in message:
            message = f"{OPENING}: {message}"
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _short(user: str) -> str:
    """The same user by a name that all take: OpenAI's have at most 64 characters, Claude Code's almost 200."""
    return user if len(user) <= 64 else sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _effort(payload: Mapping[str, Any], refusals: Refusals) -> str | None:
    if said := member(payload, "output_config").get("effort"):
        refusals.fields["reasoning_effort"] = "output_config.effort"
        return str(said)
    thinking = member(payload, "thinking")
    budget = thinking.get("budget_tokens")
    if thinking.get("type") == "enabled" and isinstance(budget, int):
        return effort(budget)
    if thinking.get("type") not in (None, "disabled"):
        refusals.leave_out("thinking")  # as much as the model likes: chat has no word for it
    return None


class _Conversation:
    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals

    def messages(self, payload: Mapping[str, Any]) -> list[Json]:
        """Raises BadRequest naming what cannot be carried."""
        found: list[Json] = []
        if payload.get("system"):
            found += self._system(payload["system"], "system")
        for place, message in enumerate(members(payload["messages"], "messages")):
            where, role = f"messages[{place}]", message.get("role")
            content = message.get("content")
            self._refusals.leave_out_rest(message, _OF_MESSAGES, "messages.")
            if role == "assistant":
                found.append(self._assistant(content, where))
            elif role == "user":
                found += self._user(content, where)
            elif role == "system":
                found += self._system(content, f"{where}.content")
            else:
                raise BadRequest(f"{where}.role must be user or assistant", code="invalid_value", param=where)
        return found

    def _system(self, content: Any, where: str) -> list[Json]:
        parts = []
        for place, part in enumerate(self._parts(content, where)):
            if part["type"] == "text":
                parts.append(part)
            else:
                self._refusals.add(f"{where}[{place}]")
        said = self._refusals.stands_for({"role": "system", "content": _plain(parts)}, where)
        return [said] if parts else []

    def _user(self, content: Any, where: str) -> list[Json]:
        """Results of tools are messages of their own in chat, before what the user says with them. Pictures among
        the results are shown with the user's words: chat takes only text from a tool."""
        stands_for = self._refusals.stands_for
        if isinstance(content, str):
            return [stands_for({"role": "user", "content": content}, where)]
        results: list[Json] = []
        parts: list[Json] = []
        for place, block in enumerate(members(content, f"{where}.content")):
            at = f"{where}.content[{place}]"
            if block.get("type") == "tool_result":
                self._leave_out(block, at)
                shown = self._parts(block.get("content"), f"{at}.content")
                parts += [part for part in shown if part["type"] != "text"]
                results.append(stands_for(_result(block, shown), at))
            else:
                parts += self._part(block, at)
        said = stands_for({"role": "user", "content": _plain(parts)}, where)
        return [*results, said] if parts else results

    def _parts(self, content: Any, where: str) -> list[Json]:
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        blocks = enumerate(members(content, where))
        return [part for place, block in blocks for part in self._part(block, f"{where}[{place}]")]

    def _leave_out(self, block: Mapping[str, Any], where: str) -> None:
        if not block.keys() <= _OF_BLOCKS:
            known = _OF_DOCUMENTS if block.get("type") == "document" else _OF_BLOCKS
            self._refusals.leave_out_rest(block, known, where.partition("[")[0] + ".")

    def _part(self, block: Mapping[str, Any], where: str) -> list[Json]:
        self._leave_out(block, where)
        if block.get("type") == "text":
            made = [{"type": "text", "text": text(block, "text", f"{where}.")}]
        else:
            made = self._shown(block, where)
        return [self._refusals.stands_for(part, where) for part in made]

    def _shown(self, block: Mapping[str, Any], where: str) -> list[Json]:
        """A picture or a document; what is told of a document goes before it, as its model would read it."""
        source = member(block, "source", f"{where}.")
        self._refusals.leave_out_rest(source, _OF_SOURCES, "messages.source.")
        if member(block, "citations", f"{where}.").get("enabled"):
            self._refusals.add(f"{where}.citations")
        match block.get("type"), source.get("type"):
            case "image", "base64" | "url":
                return [{"type": "image_url", "image_url": {"url": _url(source)}}]
            case "document", "base64":
                name = block.get("title") or "document.pdf"
                file = {"type": "file", "file": {"filename": name, "file_data": _url(source)}}
                return [*_about(block, "context"), file]
            case "document", "text":
                words = text(source, "data", f"{where}.source.")
                return [*_about(block, "title", "context"), {"type": "text", "text": words}]
            case "document", "content":
                within = self._parts(source.get("content"), f"{where}.source.content")
                return [*_about(block, "title", "context"), *within]
        self._refusals.add(where)
        return []

    def _assistant(self, content: Any, where: str) -> Json:
        message: Json = self._refusals.stands_for({"role": "assistant", "content": None}, where)
        if isinstance(content, str):
            message["content"] = content
            return message
        for place, block in enumerate(members(content, f"{where}.content")):
            self._said(message, block, f"{where}.content[{place}]")
        if message["content"] is None and "tool_calls" not in message:
            message["content"] = ""  # of thoughts alone: chat wants words or calls
        return message

    def _said(self, message: Json, block: Mapping[str, Any], at: str) -> None:
        self._leave_out(block, at)
        match block.get("type"):
            case "text":
                say(message, text(block, "text", f"{at}."))
            case "tool_use":
                given = orjson.dumps(member(block, "input", f"{at}.")).decode()
                function = {"name": block.get("name", ""), "arguments": given}
                call = {"id": block.get("id", ""), "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(self._refusals.stands_for(call, at))
            case "thinking":
                thought = text(block, "thinking", f"{at}.")
                signature = block.get("signature", "")
                _add(message, {"type": "reasoning.text", "text": thought, "signature": signature})
                message["reasoning_content"] = message.get("reasoning_content", "") + thought
            case "redacted_thinking":
                data = str(block.get("data", ""))
                _add(message, unpacked(data) or {"type": "reasoning.encrypted", "data": data})
            case _:
                self._refusals.add(at)


def _result(block: Mapping[str, Any], shown: list[Json]) -> Json:
    texts = [part["text"] for part in shown if part["type"] == "text"]
    made = {"role": "tool", "tool_call_id": block.get("tool_use_id", ""), "content": "\n".join(texts)}
    return made | ({"is_error": True} if block.get("is_error") else {})


def _plain(parts: list[Json]) -> str | list[Json]:
    """Text as chat writes it: one string where there is one."""
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _about(block: Mapping[str, Any], *names: str) -> list[Json]:
    return [{"type": "text", "text": block[name]} for name in names if isinstance(block.get(name), str)]


def _url(source: Mapping[str, Any]) -> str:
    if source["type"] == "url":
        return str(source.get("url", ""))
    return f"data:{source.get('media_type', '')};base64,{source.get('data', '')}"


def _add(message: Json, detail: Json) -> None:
    details = message.setdefault("reasoning_details", [])
    details.append({"format": FORMAT, **detail, "index": len(details)})
