"""A conversation in chat's words as Gemini takes it."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire.fields import arguments
from gateway.wire.gemini.words import FOREIGN, FORMAT, MADE
from gateway.wire.media import inline, kind_of
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json
from gateway.wire.thoughts import cuts, in_order
from gateway.wire.written import as_written


class Conversation:
    """Results name their function here, which chat only tells by the id of the call. `signed`: the model wants the
    signatures of its calls back."""

    def __init__(self, refusals: Refusals, signed: bool) -> None:
        self._refusals, self._is_signed = refusals, signed
        self._names: dict[str, str] = {}

    def turns(self, messages: Iterable[Any]) -> tuple[list[Json], list[Json]]:
        """(parts of the system instruction, contents). Raises BadRequest naming what cannot be carried."""
        system: list[Json] = []
        contents: list[Json] = []
        for place, message in enumerate(messages):
            where = f"messages[{place}]"
            role = message.get("role") if isinstance(message, dict) else None
            if role in ("system", "developer"):
                system += self._parts(message.get("content"), f"{where}.content")
            elif role == "user":
                _join(contents, "user", self._parts(message.get("content"), f"{where}.content"))
            elif role in ("tool", "function"):
                _join(contents, "user", [self._result(message, where)])
            elif role == "assistant":
                _join(contents, "model", self._said(message, where))
            else:
                raise BadRequest(
                    f"{where}.role is none that can be translated", code="invalid_value", param=where
                )
        return system, contents

    def _parts(self, content: Any, where: str) -> list[Json]:
        if isinstance(content, str):
            return [{"text": content}] if content else []
        parts = []
        for place, part in enumerate(content if isinstance(content, list) else []):
            made = _part(part) if isinstance(part, dict) else None
            if made is None:
                self._refusals.add(f"{where}[{place}]")
            elif made != {"text": ""}:
                parts.append(made)
        return parts

    def _result(self, message: Json, where: str) -> Json:
        called = message.get("tool_call_id") or message.get("name") or ""
        content = message.get("content")
        shown = self._parts(content, f"{where}.content")
        text = content if isinstance(content, str) else "".join(one.get("text", "") for one in shown)
        name = self._names.get(called) or message.get("name") or called
        made: Json = {"name": name, "response": _response(text, bool(message.get("is_error")))}
        if media := [one for one in shown if "text" not in one]:
            made["parts"] = media
        return {"functionResponse": made | _id(called if called in self._names else "")}

    def _said(self, message: Json, where: str) -> list[Json]:
        details = [one for one in message.get("reasoning_details") or [] if is_ours(one)]
        signed = {one["id"]: one["data"] for one in details if one.get("id") and one.get("data")}
        parts = [_thought(one) for one in details if one.get("type") == "reasoning.text" and one.get("text")]
        calls = list(message.get("tool_calls") or [])
        if legacy := message.get("function_call"):
            calls.append({"id": legacy.get("name"), "function": legacy})
        made = [self._call(call, f"{where}.tool_calls[{place}]", signed) for place, call in enumerate(calls)]
        if made and self._is_signed:
            made[0].setdefault("thoughtSignature", FOREIGN)
        *before, (_, said, last) = in_order((), message.get("content"), made, cuts(calls))
        at = f"{where}.content"
        for _, words, called in before:
            parts += [*self._parts(words, at), *called]
        words = self._parts(said, at)
        words += [{"text": message["refusal"]}] if message.get("refusal") else []
        for detail in details:
            if detail.get("data") and not detail.get("id"):  # of a text, at whose end it stood
                words = words or [{"text": ""}]
                words[-1] = {**words[-1], "thoughtSignature": detail["data"]}
        others = [one for one in message.get("other_blocks") or [] if isinstance(one, dict) and is_part(one)]
        return [*parts, *words, *others, *last]

    def _call(self, call: Json, where: str, signed: Mapping[str, str]) -> Json:
        function = call.get("function") or {}
        given = arguments(function, f"{where}.function.")
        name, called = function.get("name") or "", call.get("id") or ""
        self._names[called] = name
        made: Json = {"functionCall": {"name": name, "args": given} | _id(called)}
        extra = (call.get("extra_content") or {}).get("google") or {}
        signature = extra.get("thought_signature") or signed.get(called)
        return made | ({"thoughtSignature": signature} if signature else {})


def _join(contents: list[Json], role: str, parts: list[Json]) -> None:
    if contents and contents[-1]["role"] == role:
        contents[-1]["parts"] += parts
    elif parts:
        contents.append({"role": role, "parts": parts})


def _id(called: str) -> Json:
    """Gemini's own id of a call; one that was made for it stays here."""
    return {"id": called} if called and not called.startswith(MADE) else {}


def is_ours(detail: Any) -> bool:
    """Thinking that was signed here goes back; what another provider signed would be refused."""
    return isinstance(detail, dict) and detail.get("format") == FORMAT


def is_part(block: Json) -> bool:
    return "type" not in block  # which parts of other providers' have


def _thought(detail: Json) -> Json:
    signature = detail.get("signature")
    return {"text": detail["text"], "thought": True} | ({"thoughtSignature": signature} if signature else {})


def _response(text: str, is_error: bool) -> Json | orjson.Fragment:
    """An object as it is; a text under the name that Google gives to it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and not is_error:
        return as_written(text, value)
    return {"error" if is_error else "output": text}


def _part(part: Json) -> Json | None:
    """A content part; None where this format has none for it."""
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": part.get("text") or part.get("refusal") or ""}
    if kind in ("image_url", "video_url"):
        asked = part.get(kind)
        return _from_url(str(asked.get("url", "")) if isinstance(asked, dict) else str(asked))
    if kind == "input_audio" and isinstance(audio := part.get("input_audio"), dict):
        data, form = audio.get("data", ""), audio.get("format", "wav")
        return {"inlineData": {"mimeType": f"audio/{form}", "data": data}}
    file = part.get("file")
    if kind == "file" and isinstance(file, dict) and (url := file.get("file_data") or file.get("file_id")):
        # A file's id is its address here: at Google's own file store, or in a bucket.
        return _from_url(url) if ":" in str(url) else None
    return None


def _from_url(url: str) -> Json:
    if found := inline(url):
        return {"inlineData": {"mimeType": found.kind, "data": found.data}}
    kind = kind_of(url)
    return {"fileData": ({"mimeType": kind} if kind else {}) | {"fileUri": url}}
