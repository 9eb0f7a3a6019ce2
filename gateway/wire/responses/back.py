"""A chat call as Responses takes it, and its whole answer as a chat completion."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.failure import BadRequest
from gateway.wire import sse
from gateway.wire.base import Changes
from gateway.wire.fields import member, members, text
from gateway.wire.hub import ChatBack
from gateway.wire.lacks import Lacks
from gateway.wire.reasoners import drop_sampling
from gateway.wire.refusals import Refusals
from gateway.wire.responses.reader import ResponsesReader, annotated, thought_of
from gateway.wire.responses.words import FOREIGN, chat_usage, finish
from gateway.wire.sides import Json
from gateway.wire.thoughts import cuts, in_order, say

# Fields with a meaning of their own below; all others go on under their own names.
_TURNED = frozenset(
    {"messages", "max_completion_tokens", "max_tokens", "response_format", "verbosity", "reasoning_effort", "logprobs",
     "top_logprobs", "tools", "tool_choice", "stream_options"}
)  # fmt: skip
_ROLES = ("system", "developer", "user")


class ResponsesBack:
    """Nothing is left with the provider: every call says all that was said before (`store: false`)."""

    def from_chat(self, chat: Json, changes: Changes) -> Json:
        refusals = Refusals("Responses", changes.dropped, changes.left_out)
        _LACKS.tell(chat, refusals)
        known = _TURNED | _LACKS.left_out | _LACKS.refused.keys()
        body: Json = {**changes.params}
        body |= {name: chat[name] for name in chat if name not in known}
        cap = chat.get("max_completion_tokens") or chat.get("max_tokens")
        if cap is not None:
            body["max_output_tokens"] = cap
        _set_text(body, chat, refusals)
        included = []
        effort = text(chat, "reasoning_effort")
        drop_sampling(body, text(chat, "model"), effort, refusals)
        if effort:
            body["reasoning"] = {"effort": effort, "summary": "auto"}
            included.append("reasoning.encrypted_content")
        if chat.get("logprobs"):
            included.append("message.output_text.logprobs")
            body["top_logprobs"] = chat.get("top_logprobs") or 0
        if included:
            body["include"] = included
        _set_tools(body, chat, refusals)
        return {**body, "store": False, "input": _Conversation(refusals).items(chat["messages"])}

    def completion(self, answer: Any) -> Json:
        if not isinstance(answer, dict) or not isinstance(answer.get("output"), list):
            raise sse.BadStream("the answer has no output")
        if answer.get("status") == "failed":
            raise sse.BadStream(f"the response failed: {(answer.get('error') or {}).get('message')}")
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        logprobs: list[Json] = []
        for item in answer["output"]:
            _add_item(message, item, logprobs)
        found = {"content": logprobs, "refusal": None} if logprobs else None
        choice = {"index": 0, "message": message, "logprobs": found, "finish_reason": finish(answer)}
        told = {"id": answer.get("id", ""), "model": answer.get("model", ""), "choices": [choice]}
        usage = answer.get("usage")
        return {**told, "usage": chat_usage(usage)} if isinstance(usage, dict) else told

    def reader(self) -> ResponsesReader:
        return ResponsesReader()

    def error(self, body: bytes) -> Json:
        return ChatBack().error(body)


def _set_text(body: Json, chat: Json, refusals: Refusals) -> None:
    asked, made = member(chat, "response_format"), dict[str, Any]()
    match asked.get("type", "text"):
        case "json_schema":
            schema = member(asked, "json_schema", "response_format.")
            made["format"] = {"type": "json_schema", "name": "answer", **schema}
        case "json_object":
            made["format"] = {"type": "json_object"}
        case "text":
            pass
        case _:
            refusals.add("response_format")
    if chat.get("verbosity") is not None:
        made["verbosity"] = chat["verbosity"]
    if made:
        body["text"] = made


def _set_tools(body: Json, chat: Json, refusals: Refusals) -> None:
    """What stands in a member named as its type in chat stands beside the type here."""
    tools = []
    for place, tool in enumerate(members(chat.get("tools"), "tools")):
        kind = tool.get("type", "function")
        named = member(tool, str(kind), f"tools[{place}].")
        if "name" not in named:
            refusals.add(f"tools[{place}]")
            continue
        made = {"type": kind, **named}
        if kind == "function":
            made |= {"parameters": named.get("parameters") or {"type": "object", "properties": {}}}
            made.setdefault("strict", False)  # which is chat's way, but not the way of this format
        elif isinstance(form := named.get("format"), dict) and "grammar" in form:
            made["format"] = {"type": "grammar", **form["grammar"]}
        tools.append(made)
    if tools:
        body["tools"] = tools
    choice = chat.get("tool_choice")
    if isinstance(choice, dict):
        kind = choice.get("type", "function")
        choice = {"type": kind, **member(choice, str(kind), "tool_choice.")}
    if choice is not None and tools:
        body["tool_choice"] = choice


class _Conversation:
    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._custom: set[Any] = set()  # ids of calls of custom tools, whose outputs have another type

    def items(self, messages: Any) -> list[Json]:
        """Raises BadRequest naming the message that cannot be carried."""
        items: list[Json] = []
        for place, message in enumerate(members(messages, "messages")):
            where, role = f"messages[{place}]", message.get("role")
            if role in _ROLES:
                content = self._content(message.get("content"), f"{where}.content")
                items.append({"type": "message", "role": role, "content": content})
            elif role in ("tool", "function"):
                items.append(self._result(message, where))
            elif role == "assistant":
                items += self._said(message, where)
            else:
                raise BadRequest(
                    f"{where}.role is none that can be translated", code="invalid_value", param=where
                )
        return items

    def _content(self, content: Any, where: str) -> str | list[Json]:
        if isinstance(content, str):
            return content
        parts = []
        for place, part in enumerate(members(content, where)):
            made = _part(part, f"{where}[{place}].")
            if made is None:
                self._refusals.add(f"{where}[{place}]")
            else:
                parts.append(made)
        return parts

    def _result(self, message: Mapping[str, Any], where: str) -> Json:
        called = message.get("tool_call_id") or message.get("name") or ""
        kind = "custom_tool_call_output" if called in self._custom else "function_call_output"
        output = self._content(message.get("content"), f"{where}.content")
        return {"type": kind, "call_id": called, "output": output}

    def _said(self, message: Mapping[str, Any], where: str) -> Iterable[Json]:
        """Thoughts that a provider of this format encrypted, words, calls: each an item of its own."""
        for detail in members(message.get("reasoning_details"), f"{where}.reasoning_details"):
            if _is_ours(detail):
                own = {"id": detail["id"]} if detail.get("id") else {}
                yield {"type": "reasoning", **own, "summary": [], "encrypted_content": detail["data"]}
        calls, held = members(message.get("tool_calls"), f"{where}.tool_calls"), message
        made = [self._call(call, f"{where}.tool_calls[{place}].") for place, call in enumerate(calls)]
        for _, words, called in in_order((), message.get("content"), made, cuts(calls)):
            if parts := self._words({**held, "content": words}, where):
                yield {"type": "message", "role": "assistant", "content": parts}
            yield from called
            held = {}
        if legacy := member(message, "function_call", f"{where}."):
            yield self._call({"id": legacy.get("name"), "function": legacy}, f"{where}.")

    def _words(self, message: Mapping[str, Any], where: str) -> list[Json]:
        content = message.get("content")
        said = [{"type": "text", "text": content}] if isinstance(content, str) else content
        parts: list[Json] = []
        for place, part in enumerate(members(said, f"{where}.content")):
            at = f"{where}.content[{place}]"
            match part.get("type"):
                case "text":
                    words = text(part, "text", f"{at}.")
                    parts += [{"type": "output_text", "text": words, "annotations": []}] if words else []
                case "refusal":
                    parts.append({"type": "refusal", "refusal": text(part, "refusal", f"{at}.")})
                case _:
                    self._refusals.add(at)
        if message.get("refusal"):
            parts.append({"type": "refusal", "refusal": message["refusal"]})
        return parts

    def _call(self, call: Mapping[str, Any], where: str) -> Json:
        called = call.get("id") or ""
        if call.get("type") == "custom":
            self._custom.add(called)
            custom = member(call, "custom", where)
            given = {"name": custom.get("name") or "", "input": text(custom, "input", f"{where}custom.")}
            return {"type": "custom_tool_call", "call_id": called, **given}
        function = member(call, "function", where)
        arguments = text(function, "arguments", f"{where}function.") or "{}"
        named = {"name": function.get("name") or "", "arguments": arguments}
        return {"type": "function_call", "call_id": called, **named}


def _part(part: Mapping[str, Any], where: str) -> Json | None:
    """A content part; None where this format has none like it."""
    match part.get("type"):
        case "text":
            return {"type": "input_text", "text": text(part, "text", where)}
        case "image_url":
            image = part.get("image_url")  # a bare text at Mistral
            if isinstance(image, str):
                return {"type": "input_image", "image_url": image}
            named = member(part, "image_url", where)
            detail = {"detail": named["detail"]} if named.get("detail") else {}
            return {"type": "input_image", "image_url": text(named, "url", f"{where}image_url."), **detail}
        case "file":
            return {"type": "input_file", **member(part, "file", where)}
        case "input_audio":
            return {"type": "input_audio", "input_audio": member(part, "input_audio", where)}
    return None


def _is_ours(detail: Mapping[str, Any]) -> bool:
    return detail.get("format") == FOREIGN and bool(detail.get("data"))


_LACKS = Lacks(
    refused={
        "n": (1,), "seed": (), "stop": ([], ""), "frequency_penalty": (0,), "presence_penalty": (0,),
        "logit_bias": ({},), "modalities": (["text"],), "audio": (), "prediction": (), "functions": ([],),
        "function_call": ("none", "auto"), "web_search_options": (),
    },
    left_out=frozenset({"store", "top_k"}),
    takes={"reasoning_details": _is_ours},
    words=frozenset({"detail", "file", "input_audio", "function", "json_schema", "tool_choice"}),
)  # fmt: skip


def _add_item(message: Json, item: Json, logprobs: list[Json]) -> None:
    match item.get("type"):
        case "message":
            for part in item.get("content") or []:
                _add_part(message, part, logprobs)
        case "reasoning":
            words, details = thought_of(item, len(message.get("reasoning_details") or ()))
            if words:
                message["reasoning_content"] = message.get("reasoning_content", "") + words
            if details:
                message.setdefault("reasoning_details", []).extend(details)
        case "function_call":
            function = {"name": item["name"], "arguments": item.get("arguments") or "{}"}
            call = {"id": item["call_id"], "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(call)
        case "custom_tool_call":
            custom = {"name": item["name"], "input": item.get("input") or ""}
            message.setdefault("tool_calls", []).append(
                {"id": item["call_id"], "type": "custom", "custom": custom}
            )
        case _:
            message.setdefault("other_blocks", []).append(item)


def _add_part(message: Json, part: Json, logprobs: list[Json]) -> None:
    if part.get("type") == "refusal":
        message["refusal"] = (message["refusal"] or "") + part["refusal"]
        return
    say(message, part.get("text", ""))
    logprobs += part.get("logprobs") or []
    if part.get("annotations"):
        message.setdefault("annotations", []).extend(annotated(one) for one in part["annotations"])
