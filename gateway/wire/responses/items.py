"""The items of an input as chat's messages.

An item stands alone where chat has one message for what a model says at once: its thoughts, its words and its
calls. So these are gathered until something else comes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.failure import BadRequest
from gateway.wire.refusals import Refusals
from gateway.wire.responses.compaction import PREFACE, summary_of
from gateway.wire.responses.words import chat_name, item_id, unseal
from gateway.wire.sides import Json
from gateway.wire.thoughts import after_all, say

# Items of tools that a provider runs by itself, and of what it keeps for its clients.
_ELSEWHERE = frozenset(
    {"file_search_call", "computer_call", "computer_call_output", "web_search_call", "tool_search_call",
     "tool_search_output", "additional_tools", "compaction_trigger", "image_generation_call",
     "code_interpreter_call", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
     "apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_approval_request",
     "mcp_approval_response", "mcp_call", "item_reference", "program", "program_output"}
)  # fmt: skip
# What chat has words for, and what only tells one item from others.
_OF_ITEMS = frozenset(
    {"type", "id", "status", "role", "content", "call_id", "name", "namespace", "arguments", "input", "output",
     "summary", "encrypted_content"}
)  # fmt: skip
_OF_PARTS = frozenset(
    {"type", "text", "refusal", "image_url", "detail", "file_data", "file_id", "filename", "input_audio"}
)
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


def messages(asked: Any, refusals: Refusals) -> list[Json]:
    """Raises BadRequest that names the item at fault."""
    if asked is None:
        return []
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    conversation = _Conversation(refusals)
    for place, item in _items(asked):
        conversation.add(item, f"input[{place}]")
    return conversation.end()


class _Conversation:
    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._messages: list[Json] = []
        self._calls: set[str] = set()
        self._shown: list[Json] = []  # pictures and files among results: chat takes only text from a tool

    def add(self, item: Json, where: str) -> None:
        kind = item.get("type") or ("message" if "role" in item else "item_reference")
        self._refusals.leave_out_rest(item, _OF_ITEMS, "input.")
        if kind not in ("function_call_output", "custom_tool_call_output"):
            self._show()
        match kind:
            case "message":
                self._message(item, where)
            case "function_call" | "custom_tool_call":
                self._call(item, str(kind), where)
            case "function_call_output" | "custom_tool_call_output":
                self._result(item, where)
            case "reasoning":
                self._thought(item, where)
            case "compaction":
                self._summary(item, where)
            case _:
                self._unknown(kind, where)

    def end(self) -> list[Json]:
        """Thoughts that nothing was said after are said with an empty text: a message must have a content."""
        self._show()
        for message in self._messages:
            message.setdefault("content", "")
        return self._messages

    def _message(self, item: Json, where: str) -> None:
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            field = f"{where}.role"
            wanted = f"'{field}' must be user, assistant, system or developer"
            raise BadRequest(wanted, code="invalid_value", param=field)
        content = item.get("content")
        if role != "assistant":
            shown = content if isinstance(content, str) else _plain(self._parts(content, where))
            self._messages.append(self._refusals.stands_for({"role": role, "content": shown}, where))
            return
        said, refused = self._said(content, where)
        message = self._begin(where)
        before = message.get("content")
        if said:
            say(message, f"\n\n{said}" if before else said)
        else:
            message["content"] = said if before is None else before
        if refused:
            message["refusal"] = refused

    def _said(self, content: Any, where: str) -> tuple[str | None, str]:
        """What a model said, and what it refused by."""
        if isinstance(content, str):
            return content, ""
        texts, refused = [], []
        for place, part in self._of(content, where):
            if part.get("type") in ("output_text", "input_text", "text"):
                texts.append(str(part.get("text") or ""))
            elif part.get("type") == "refusal":
                refused.append(str(part.get("refusal") or ""))
            else:
                self._refusals.add(place)
        return ("".join(texts) if texts else None), "".join(refused)

    def _call(self, item: Json, kind: str, where: str) -> None:
        given = "arguments" if kind == "function_call" else "input"
        if not isinstance(item.get(given, ""), str):
            field = f"{where}.{given}"
            raise BadRequest(f"'{field}' must be a text", code="invalid_type", param=field)
        message = self._open(where)
        message.setdefault("content", None)
        ident = str(item.get("call_id") or item.get("id") or "")
        self._calls.add(ident)
        call: Json = {"id": ident, "type": "function"}
        if kind == "function_call":
            call["function"] = {"name": chat_name(item), "arguments": item.get("arguments") or "{}"}
        else:
            call |= {"type": "custom", "custom": {"name": chat_name(item), "input": item.get("input") or ""}}
        message.setdefault("tool_calls", []).append(self._refusals.stands_for(call, where))

    def _result(self, item: Json, where: str) -> None:
        ident = str(item.get("call_id") or "")
        if ident not in self._calls:
            message = f"'{where}' is the output of a call {ident[:64]!r} that no item before it makes"
            raise BadRequest(message, code="invalid_value", param=where)
        output = item.get("output")
        if not isinstance(output, str):
            parts = self._parts(output, where, "output")
            self._shown += [part for part in parts if part["type"] != "text"]
            output = "\n".join(part["text"] for part in parts if part["type"] == "text")
        result = {"role": "tool", "tool_call_id": ident, "content": output}
        self._messages.append(self._refusals.stands_for(result, where))

    def _thought(self, item: Json, where: str) -> None:
        message = self._begin(where)
        parts = [
            one for name in ("content", "summary") if isinstance(item.get(name), list) for one in item[name]
        ]
        text = "\n\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
        if text:
            message["reasoning_content"] = message.get("reasoning_content", "") + text
        if sealed := item.get("encrypted_content"):
            details, place = message.setdefault("reasoning_details", []), after_all(message)
            for detail in unseal(str(sealed), str(item.get("id") or "")):
                details.append({**detail, **place, "index": len(details)})

    def _summary(self, item: Json, where: str) -> None:
        summary = summary_of(item)
        if summary is None:
            self._refusals.add(
                where, f"'{where}' (a compaction that only the provider that made it can read)"
            )
        else:
            message = {"role": "user", "content": PREFACE + summary}
            self._messages.append(self._refusals.stands_for(message, where))

    def _unknown(self, kind: Any, where: str) -> None:
        if not isinstance(kind, str) or kind not in _ELSEWHERE:
            message = f"'{where}.type' is no type of item that is known: {str(kind)[:64]!r}"
            raise BadRequest(message, code="invalid_value", param=f"{where}.type")
        self._refusals.add(where, f"'{where}' (an item of type {kind})")

    def _open(self, where: str) -> Json:
        """The message that gathers what the model says now."""
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages.append(self._refusals.stands_for({"role": "assistant"}, where))
        return self._messages[-1]

    def _begin(self, where: str) -> Json:
        """For words and thoughts: after words they are another message, unless calls wait for their results,
        which must follow at once."""
        message = self._open(where)
        if "content" in message and "tool_calls" not in message:
            self._messages.append(self._refusals.stands_for({"role": "assistant"}, where))
        return self._messages[-1]

    def _show(self) -> None:
        if self._shown:
            self._messages.append({"role": "user", "content": self._shown})
            self._shown = []

    def _parts(self, content: Any, where: str, field: str = "content") -> list[Json]:
        found = []
        for place, part in self._of(content, where, field):
            made = _part(part)
            if made is None:
                self._refusals.add(place)
            else:
                found.append(self._refusals.stands_for(made, place))
        return found

    def _of(self, content: Any, where: str, field: str = "content") -> Iterable[tuple[str, Json]]:
        """The parts of a content, each with its place."""
        if not isinstance(content, list):
            message = f"'{where}.{field}' must be a text or a list of parts"
            raise BadRequest(message, code="invalid_type", param=f"{where}.{field}")
        for place, part in enumerate(content):
            at = f"{where}.{field}[{place}]"
            if not isinstance(part, dict):
                raise BadRequest(f"'{at}' must be a part, an object", code="invalid_type", param=at)
            self._refusals.leave_out_rest(part, _OF_PARTS, "input.")
            yield at, part


def _part(part: Mapping[str, Any]) -> Json | None:
    """A content part as chat's; None where chat has none like it."""
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": str(part.get("text") or "")}
        case "input_image" if part.get("image_url"):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
        case "input_file" if part.get("file_data") or part.get("file_id"):
            names = ("file_data", "file_id", "filename")
            return {"type": "file", "file": {name: part[name] for name in names if part.get(name)}}
        case "input_audio" if part.get("input_audio"):
            return {"type": "input_audio", "input_audio": part["input_audio"]}
    return None


def _plain(parts: list[Json]) -> str | list[Json]:
    """One text as chat usually writes it."""
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _items(asked: Any) -> Iterable[tuple[int, Json]]:
    """Raises BadRequest for what is no list of items."""
    if not isinstance(asked, list):
        raise BadRequest("'input' must be a text or a list of items", code="invalid_type", param="input")
    for place, item in enumerate(asked):
        if not isinstance(item, dict):
            where = f"input[{place}]"
            raise BadRequest(f"'{where}' must be an item, an object", code="invalid_type", param=where)
        yield place, item


def listed(asked: Any, ident: str) -> list[Json]:
    """An input as the list of items it stands for, each with an id, as they are told when asked for."""
    if isinstance(asked, str):
        asked = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": asked}]}]
    items = []
    for place, item in _items(asked or []):
        kind = item.get("type") or "message"
        made = {"id": item_id(kind, ident, f"i{place}"), "type": kind, "status": "completed", **item}
        if kind == "message" and isinstance(item.get("content"), str):
            text = "output_text" if item.get("role") == "assistant" else "input_text"
            made["content"] = [{"type": text, "text": item["content"]}]
        items.append(made)
    return items
