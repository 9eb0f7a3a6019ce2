"""A call in Gemini's words as a chat call."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire.gemini.schema import json_schema
from gateway.wire.gemini.tools import set_tools
from gateway.wire.gemini.words import FORMAT, STATUSES, camel, effort
from gateway.wire.gemini.writer import ArrayWriter, GeminiWriter
from gateway.wire.refusals import Refusals
from gateway.wire.schemas import closed, is_strict
from gateway.wire.sides import Json, Writer
from gateway.wire.thoughts import say, unpacked

# Fields with a meaning of their own here; all others go on to the provider under their own names.
_TURNED = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "model"}
)
_LEFT_OUT = frozenset({"labels", "serviceTier", "store"})  # only say how Google is to keep or bill
_NOT_CARRIED = ("cachedContent", "modelArmorConfig", "n", "bestOf")  # several answers: candidateCount
_CONFIG = {
    "maxOutputTokens": "max_completion_tokens", "temperature": "temperature", "topP": "top_p",
    "topK": "top_k", "candidateCount": "n", "seed": "seed", "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty", "responseLogprobs": "logprobs", "logprobs": "top_logprobs",
    "stopSequences": "stop",
}  # fmt: skip
# What chat's fields are called here.
_FIELDS = {theirs: f"generationConfig.{name}" for name, theirs in _CONFIG.items()} | {
    "reasoning_effort": "generationConfig.thinkingConfig", "response_format": "generationConfig.responseMimeType",
    "tool_choice": "toolConfig", "messages.reasoning_content": "contents.thought",
    "messages.reasoning_details": "contents.thought",
}  # fmt: skip
_CONFIG_TURNED = frozenset(
    {"responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities", "thinkingConfig"}
)
# What chat has words for.
_OF_CONTENTS = frozenset({"role", "parts"})
_OF_PARTS = frozenset(
    {"text", "thought", "thoughtSignature", "inlineData", "fileData", "functionCall", "functionResponse",
     "videoMetadata"}
)  # fmt: skip
_OF_FILES = frozenset({"mimeType", "data", "fileUri", "displayName"})
_OF_CALLS = frozenset({"id", "name", "args"})
_OF_RESULTS = frozenset({"id", "name", "response", "parts"})
_OF_THINKING = frozenset({"thinkingLevel", "thinkingBudget"})
_ASKS_NOTHING = ("BLOCK_NONE", "OFF", "HARM_BLOCK_THRESHOLD_UNSPECIFIED")


class GeminiFront:
    def __init__(self, is_array: bool = False) -> None:
        self._is_array = is_array

    def to_chat(self, payload: Mapping[str, Any], refusals: Refusals) -> Json:
        refusals.fields |= _FIELDS
        asked = camel(payload)
        for name in _NOT_CARRIED:
            if asked.get(name) and asked[name] != 1:  # one answer is what there is
                refusals.add(name)
        for place, setting in enumerate(asked.get("safetySettings") or []):
            if camel(setting).get("threshold") not in _ASKS_NOTHING:
                refusals.add(f"safetySettings[{place}]")
        refusals.leave_out_of(asked, _LEFT_OUT)
        chat: Json = {name: asked[name] for name in asked.keys() - _TURNED - _LEFT_OUT}
        for name in _NOT_CARRIED:
            chat.pop(name, None)
        chat["messages"] = _Conversation(refusals).messages(asked)
        _set_config(chat, camel(asked.get("generationConfig")), refusals)
        set_tools(chat, asked, refusals)
        return chat

    def place(self, where: str) -> str:
        return where

    def writer(self, asked: Mapping[str, Any], moment: int, ident: str = "") -> Writer:
        return ArrayWriter() if self._is_array else GeminiWriter()

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        named = STATUSES.get(status) or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL")
        return orjson.dumps({"error": {"code": status, "message": message, "status": named}})


def _set_config(chat: Json, config: Json, refusals: Refusals) -> None:
    for name, value in config.items():
        if value is None or name in _CONFIG_TURNED:
            continue
        if name not in _CONFIG:
            refusals.add(f"generationConfig.{name}")
        else:
            chat[_CONFIG[name]] = value
    thinking = camel(config.get("thinkingConfig"))
    refusals.leave_out_rest(thinking, _OF_THINKING, "generationConfig.thinkingConfig.")
    if asked := effort(thinking):
        chat["reasoning_effort"] = asked
    if [str(one).upper() for one in config.get("responseModalities") or []] not in ([], ["TEXT"]):
        refusals.add("generationConfig.responseModalities")
    # Gemini writes no members but those that are named, though its schemas do not say so.
    schema = closed(config.get("responseJsonSchema") or json_schema(config.get("responseSchema")))
    kind = config.get("responseMimeType") or "text/plain"
    if schema and kind == "application/json":
        named = {"name": "answer", "strict": is_strict(schema), "schema": schema}
        chat["response_format"] = {"type": "json_schema", "json_schema": named}
    elif kind == "application/json":
        chat["response_format"] = {"type": "json_object"}
    elif kind != "text/plain" or schema:
        refusals.add("generationConfig.responseMimeType")


class _Conversation:
    """Calls may come without ids here, and their results then belong to them by name and order."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._calls = 0
        self._open: list[tuple[str, str]] = []  # (name, id) of calls that have no result yet

    def messages(self, asked: Json) -> list[Json]:
        """Raises BadRequest naming what cannot be carried."""
        found: list[Json] = []
        if system := asked.get("systemInstruction"):
            shown = self._shown(self._parts(system, "systemInstruction"))
            said = {"role": "system", "content": _content(shown)}
            found.append(self._refusals.stands_for(said, "systemInstruction"))
        for place, content in enumerate(asked["contents"]):
            where = f"contents[{place}]"
            parts = self._parts(content, where)
            role = content.get("role") or "user"
            if role == "model":
                found.append(self._refusals.stands_for(self._said(parts), where))
            elif role in ("user", "function"):
                found += self._user(parts, where)
            else:
                raise BadRequest(f"{where}.role must be user or model", code="invalid_value", param=where)
        return found

    def _parts(self, content: Any, where: str) -> list[tuple[str, Json]]:
        """The parts of a content, each with its place; a text stands for one."""
        if isinstance(content, str):
            return [(where, {"text": content})]
        parts = content.get("parts") if isinstance(content, dict) else None
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise BadRequest(f"'{where}.parts' must be a list of objects", code="invalid_type", param=where)
        within = where.partition("[")[0] + "."
        self._refusals.leave_out_rest(content, _OF_CONTENTS, within)
        found = [(f"{where}.parts[{place}]", camel(part)) for place, part in enumerate(parts)]
        for _, part in found:
            self._refusals.leave_out_rest(part, _OF_PARTS, within)
        return found

    def _user(self, parts: Iterable[tuple[str, Json]], at: str) -> list[Json]:
        """Results of functions are messages of their own in chat, before what the user says with them."""
        results: list[Json] = []
        shown: list[Json] = []
        for where, part in parts:
            if part.get("functionResponse") is not None:
                result, media = self._result(camel(part["functionResponse"]), where)
                results.append(self._refusals.stands_for(result, where))
                shown += media  # chat takes only text from a tool
            else:
                shown += self._shown([(where, part)])
        said = self._refusals.stands_for({"role": "user", "content": _content(shown)}, at)
        return [*results, said] if shown else results

    def _result(self, response: Json, where: str) -> tuple[Json, list[Json]]:
        self._refusals.leave_out_rest(response, _OF_RESULTS, "contents.functionResponse.")
        name, called = response.get("name", ""), response.get("id")
        match = next((one for one in self._open if one[1] == called or (not called and one[0] == name)), None)
        if match is not None:
            self._open.remove(match)
        given = response.get("response") or {}
        text = given.get("output") if set(given) == {"output"} else None
        content = text if isinstance(text, str) else orjson.dumps(given).decode()
        media = self._shown((f"{where}.functionResponse", camel(one)) for one in response.get("parts") or [])
        called = called or (match[1] if match else name)
        return {"role": "tool", "tool_call_id": called, "content": content}, media

    def _shown(self, parts: Iterable[tuple[str, Json]]) -> list[Json]:
        found = []
        for where, part in parts:
            if part.get("videoMetadata"):
                self._refusals.add(f"{where}.videoMetadata")
            made = _part(part, self._refusals)
            if made is None:
                self._refusals.add(where)
            else:
                found.append(self._refusals.stands_for(made, where))
        return found

    def _said(self, parts: Iterable[tuple[str, Json]]) -> Json:
        message: Json = {"role": "assistant", "content": None}
        for where, part in parts:
            signature = part.get("thoughtSignature")
            if part.get("functionCall") is not None:
                self._add_call(message, camel(part["functionCall"]), signature, where)
            elif part.get("thought"):
                text = part.get("text") or ""
                message["reasoning_content"] = message.get("reasoning_content", "") + text
                _add(message, signature, {"type": "reasoning.text", "text": text})
            elif isinstance(part.get("text"), str):
                say(message, part["text"])
                if signature:
                    _add(message, signature, {"type": "reasoning.encrypted"})
            else:
                self._refusals.add(where)
        if message["content"] is None and "tool_calls" not in message:
            message["content"] = ""  # of thoughts alone: chat wants words or calls
        return message

    def _add_call(self, message: Json, call: Json, signature: str | None, where: str) -> None:
        self._refusals.leave_out_rest(call, _OF_CALLS, "contents.functionCall.")
        name, called = call.get("name", ""), call.get("id") or f"call_{self._calls}"
        self._calls += 1
        self._open.append((name, called))
        function = {"name": name, "arguments": orjson.dumps(call.get("args") or {}).decode()}
        made = {"id": called, "type": "function", "function": function}
        message.setdefault("tool_calls", []).append(self._refusals.stands_for(made, where))
        if signature:
            _add(message, signature, {"type": "reasoning.encrypted", "id": called})


def _add(message: Json, signature: str | None, detail: Json) -> None:
    """What another provider signed comes back as it was signed."""
    theirs = unpacked(signature) if signature else None
    if theirs is not None:
        detail = {**detail, **theirs}
    else:
        known = "signature" if detail["type"] == "reasoning.text" else "data"
        detail = {**detail, "format": FORMAT} | ({known: signature} if signature else {})
    details = message.setdefault("reasoning_details", [])
    if details and detail["type"] == "reasoning.text" and _is_unsigned_text(details[-1]):
        detail["text"] = details.pop()["text"] + detail["text"]  # streamed in pieces, signed at its end
    details.append({**detail, "index": len(details)})


def _is_unsigned_text(detail: Json) -> bool:
    return detail["type"] == "reasoning.text" and not detail.get("signature")


def _content(shown: list[Json]) -> str | list[Json]:
    """As chat writes it: one string where there is one."""
    return str(shown[0]["text"]) if len(shown) == 1 and shown[0]["type"] == "text" else shown


def _part(part: Json, refusals: Refusals) -> Json | None:
    """A part as chat's content part; None where chat has none for it."""
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    held, named = camel(part.get("inlineData")), camel(part.get("fileData"))
    refusals.leave_out_rest(held, _OF_FILES, "contents.inlineData.")
    refusals.leave_out_rest(named, _OF_FILES, "contents.fileData.")
    kind = str(held.get("mimeType") or named.get("mimeType") or "")
    url = f"data:{kind};base64,{held.get('data', '')}" if held else str(named.get("fileUri") or "")
    if not url:
        return None
    family, _, form = kind.partition("/")
    if family == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if family == "audio" and held:
        form = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}.get(form, form)
        return {"type": "input_audio", "input_audio": {"data": held.get("data", ""), "format": form}}
    if family == "video":
        return {"type": "video_url", "video_url": {"url": url}}
    if held:
        name = held.get("displayName") or f"document.{form or 'bin'}"
        return {"type": "file", "file": {"filename": name, "file_data": url}}
    return None
