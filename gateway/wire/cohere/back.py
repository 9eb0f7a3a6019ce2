"""A chat call as Cohere takes it."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.cohere.reader import CohereReader, completion
from gateway.wire.cohere.words import thinking
from gateway.wire.fields import member, members, text
from gateway.wire.lacks import OF_CALLERS, Lacks, always
from gateway.wire.media import inline
from gateway.wire.reason import NO_REASON, reason
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json
from gateway.wire.thoughts import is_plain, plain

# What changes nothing of an answer, only how it is kept, billed or shown, is left out.
_LACKS = Lacks(
    refused={
        "n": (1,), "logit_bias": ({},), "top_logprobs": (0,), "modalities": (["text"],), "audio": (),
        "prediction": (), "web_search_options": (), "verbosity": ("medium",), "functions": ([],),
        "function_call": ("none", "auto"), "parallel_tool_calls": (True,),
    },
    left_out=OF_CALLERS | {"moderation"},
    takes={"reasoning_content": always, "reasoning_details": is_plain},
    words=frozenset({"filename", "image_url"}),
)  # fmt: skip
_RENAMED = {"max_completion_tokens": "max_tokens", "max_tokens": "max_tokens", "top_p": "p", "top_k": "k"}
_TURNED = frozenset(
    {"stream_options", "messages", "tools", "tool_choice", "stop", "response_format", "reasoning_effort"}
)
_CHOICES = {"required": "REQUIRED", "none": "NONE"}


class CohereBack:
    def from_chat(self, chat: Json, changes: Changes) -> Json:
        refusals = Refusals("Cohere's chat", changes.dropped, changes.left_out)
        asked = {name: value for name, value in chat.items() if value is not None}
        _LACKS.tell(chat, refusals)
        known = _LACKS.left_out | _TURNED | _RENAMED.keys() | _LACKS.refused.keys()
        body: Json = {**changes.params}
        body |= {name: value for name, value in asked.items() if name not in known}
        body |= {_RENAMED[name]: asked[name] for name in reversed(_RENAMED) if name in asked}
        if stop := asked.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        _set_thinking(body, asked, refusals)
        _set_format(body, asked, refusals)
        _set_tools(body, asked, refusals)
        conversation = _Conversation(refusals)
        body["messages"] = conversation.turns(chat["messages"])
        if conversation.documents:
            body["documents"] = [*(body.get("documents") or []), *conversation.documents]
        return body

    def completion(self, answer: Any) -> Json:
        return completion(answer)

    def reader(self) -> CohereReader:
        return CohereReader()

    def error(self, body: bytes) -> Json:
        try:
            told = orjson.loads(body)
            return {"message": str(told["message"]), "code": told.get("error_type")}
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            return {"message": reason(body) or NO_REASON}


def _set_thinking(body: Json, asked: Json, refusals: Refusals) -> None:
    effort = text(asked, "reasoning_effort")
    if not effort or "thinking" in body:
        return
    if (made := thinking(effort)) is None:
        refusals.add("reasoning_effort")
    else:
        body["thinking"] = made


def _set_format(body: Json, asked: Json, refusals: Refusals) -> None:
    wanted = member(asked, "response_format")
    kind = wanted.get("type", "text")
    if kind == "json_schema":
        schema = member(
            member(wanted, "json_schema", "response_format."), "schema", "response_format.json_schema."
        )
        body["response_format"] = {"type": "json_object", "json_schema": schema}
    elif kind == "json_object":
        body["response_format"] = {name: wanted[name] for name in ("type", "json_schema") if name in wanted}
    elif kind != "text":
        refusals.add("response_format")


def _set_tools(body: Json, asked: Json, refusals: Refusals) -> None:
    tools: list[Json] = []
    for place, tool in enumerate(members(asked.get("tools"), "tools")):
        function = member(tool, "function", f"tools[{place}].")
        if "name" not in function:
            refusals.add(f"tools[{place}]")
            continue
        made = {name: function[name] for name in ("name", "description") if function.get(name) is not None}
        made["parameters"] = function.get("parameters") or {"type": "object", "properties": {}}
        tools.append({"type": "function", "function": made})
        if function.get("strict") is True:
            body["strict_tools"] = True
    choice = asked.get("tool_choice", "auto")
    if tools and choice != "auto":
        tools = _chosen(body, tools, choice, refusals)
    if tools:
        body["tools"] = tools


def _chosen(body: Json, tools: list[Json], choice: Any, refusals: Refusals) -> list[Json]:
    """The tools to show. One that must be called is the only one shown: Cohere has no word for it."""
    if isinstance(choice, str) and choice in _CHOICES:
        body["tool_choice"] = _CHOICES[choice]
        return tools
    name = member(choice, "function", "tool_choice.").get("name") if isinstance(choice, dict) else None
    named = [tool for tool in tools if tool["function"]["name"] == name]
    if not named:
        refusals.add("tool_choice")
        return tools
    body["tool_choice"] = "REQUIRED"
    return named


class _Conversation:
    """`documents` are files that are texts: they are told beside the turns, where they can be cited."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self.documents: list[Json] = []

    def turns(self, messages: Any) -> list[Json]:
        """Raises BadRequest naming the message that cannot be carried."""
        found = []
        for place, message in enumerate(members(messages, "messages")):
            where, role = f"messages[{place}]", message.get("role")
            if role in ("system", "developer"):
                found.append({"role": "system", "content": self._content(message, where, ("text",))})
            elif role == "user":
                kinds = ("text", "image_url", "file")
                found.append({"role": "user", "content": self._content(message, where, kinds)})
            elif role in ("tool", "function"):
                called = message.get("tool_call_id") or message.get("name") or ""
                content = self._content(message, where, ("text", "document"))
                found.append({"role": "tool", "tool_call_id": called, "content": content})
            elif role == "assistant":
                found += self._said(message, where)
            else:
                raise BadRequest(
                    f"{where}.role is none that can be translated", code="invalid_value", param=where
                )
        return found

    def _content(self, message: Mapping[str, Any], where: str, kinds: Sequence[str]) -> str | list[Json]:
        """A text as it is, parts as parts of these kinds."""
        content = message.get("content")
        if content is None or isinstance(content, str):
            return content or ""
        parts = []
        for place, part in enumerate(members(content, f"{where}.content")):
            at, kind = f"{where}.content[{place}]", str(part.get("type"))
            made = self._part(part, "text" if kind == "refusal" else kind, kinds, at)
            if made is None:
                self._refusals.add(at)
            elif made:
                parts.append(made)
        return parts

    def _part(self, part: Mapping[str, Any], kind: str, kinds: Sequence[str], at: str) -> Json | None:
        """None where this format has none for it, empty for a document, which is told elsewhere."""
        if kind not in kinds:
            return None
        if kind == "text":
            return {"type": "text", "text": text(part, "text", f"{at}.") or text(part, "refusal", f"{at}.")}
        if kind == "document":  # Cohere's own: what a tool found, to be cited
            return {"type": "document", "document": member(part, "document", f"{at}.")}
        if kind == "image_url":
            url = part.get("image_url")  # a bare text at Mistral
            shown = {"url": url} if isinstance(url, str) else {**member(part, "image_url", f"{at}.")}
            return {"type": "image_url", "image_url": shown}
        document = _document(member(part, "file", f"{at}."), f"{at}.file.")
        if document is None:
            return None
        self.documents.append(document)
        return {}

    def _said(self, message: Mapping[str, Any], where: str) -> list[Json]:
        """What is said before calls is their plan. A turn that says nothing is none."""
        said = self._content(message, where, ("text",)) or text(message, "refusal", f"{where}.")
        calls = [_call(call, f"{where}.tool_calls[{place}].") for place, call in
                 enumerate(members(message.get("tool_calls"), f"{where}.tool_calls"))]  # fmt: skip
        if legacy := member(message, "function_call", f"{where}."):
            calls.append(_call({"id": legacy.get("name"), "function": legacy}, f"{where}."))
        made: Json = {"role": "assistant"}
        if calls:
            plan = said if isinstance(said, str) else "".join(part["text"] for part in said)
            made |= {"tool_calls": calls} | ({"tool_plan": plan} if plan else {})
            said = ""
        if thought := text(message, "reasoning_content", f"{where}.") or plain(message):
            words = [{"type": "text", "text": said}] if isinstance(said, str) and said else said or []
            said = [{"type": "thinking", "thinking": thought}, *words]
        made |= {"content": said} if said else {}
        return [made] if len(made) > 1 else []


def _call(call: Mapping[str, Any], where: str) -> Json:
    function = member(call, "function", where)
    named = {
        "name": text(function, "name", f"{where}function."),
        "arguments": text(function, "arguments", f"{where}function.") or "{}",
    }
    return {"id": call.get("id") or "", "type": "function", "function": named}


def _document(file: Mapping[str, Any], where: str) -> Json | None:
    """None for a file that is no text, or not in the call."""
    found = inline(text(file, "file_data", where))
    if found is None or not found.kind.startswith("text/"):
        return None
    try:
        told = base64.b64decode(found.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    title = text(file, "filename", where)
    return {"data": {"text": told} | ({"title": title} if title else {})}
