"""Chat's answers as Gemini's: whole, or as a stream of which every event is an answer of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.wire.fields import given
from gateway.wire.gemini.words import FORMAT, STOP, failure, gemini_usage
from gateway.wire.media import inline, kind_of
from gateway.wire.sides import Json, Piece
from gateway.wire.thoughts import cuts, in_order, packed


class GeminiWriter:
    """Calls are never split here: their fragments are kept until the end, where the usage is known too."""

    tells_failure = tells_media = True

    def __init__(self) -> None:
        self._head: Json = {}
        self._usage: Json | None = None
        self._reasons: dict[int, str] = {}
        self._calls: dict[int, dict[Any, Json]] = {}
        self._signed: dict[str, Json] = {}  # details by the id of the call they belong to
        self._texts: dict[int, list[str]] = {}  # what was said, to which citations point

    def whole(self, completion: Json) -> Json:
        candidates = []
        for choice in completion["choices"]:
            message = choice["message"]
            details = message.get("reasoning_details") or []
            signed = {one["id"]: one for one in details if _is_of_call(one)}
            calls, held = message.get("tool_calls") or [], message
            parts: list[Json] = []
            for _, words, called in in_order((), message.get("content"), calls, cuts(calls)):
                parts += [*_said({**held, "content": words}), *_calls(called, signed)]
                held = {}
            found: Json = {"content": {"role": "model", "parts": parts}, "index": choice.get("index") or 0}
            found["finishReason"] = (
                "SAFETY" if message.get("refusal") else _reason(choice.get("finish_reason"))
            )
            found |= _grounding(message.get("annotations") or [], message.get("content") or "")
            found |= _logprobs(choice.get("logprobs"))
            candidates.append(found)
        return {"candidates": candidates, "usageMetadata": gemini_usage(completion.get("usage") or {}),
                "modelVersion": completion.get("model", ""), "responseId": completion.get("id", "")}  # fmt: skip

    def write(self, piece: Piece) -> bytes:
        if "error" in piece:
            error = piece["error"]
            return self._event({"error": failure(error.get("message", ""), error.get("type"))})
        for name, theirs in (("model", "modelVersion"), ("id", "responseId")):
            if piece.get(name):
                self._head[theirs] = piece[name]
        self._usage = piece.get("usage") or self._usage
        candidates = [found for choice in piece["choices"] if (found := self._choice(choice))]
        return self._event({"candidates": candidates, **self._head}) if candidates else b""

    def end(self) -> bytes:
        last = []
        for index in sorted(self._texts):  # not every server says why it stops
            parts = _calls(self._calls.get(index, {}).values(), self._signed)
            content = {"content": {"role": "model", "parts": list(parts)}}
            last.append({**content, "index": index, "finishReason": self._reasons.get(index, "STOP")})
        return self._event(
            {"candidates": last, "usageMetadata": gemini_usage(self._usage or {}), **self._head}
        )

    def _choice(self, choice: Json) -> Json | None:
        index, delta = choice.get("index") or 0, choice.get("delta") or {}
        for detail in delta.get("reasoning_details") or ():
            if _is_of_call(detail):
                self._signed[detail["id"]] = detail
        for call in delta.get("tool_calls") or ():
            self._fragment(index, call)
        if reason := choice.get("finish_reason"):
            self._reasons.setdefault(index, _reason(reason))
        if delta.get("refusal"):
            self._reasons[index] = "SAFETY"
        said = self._texts.setdefault(index, [])
        said.append(delta.get("content") or "")
        found = _logprobs(choice.get("logprobs"))
        if cited := delta.get("annotations"):
            found |= _grounding(cited, "".join(said))
        if parts := list(_said(delta)):
            found["content"] = {"role": "model", "parts": parts}
        return {**found, "index": index} if found else None

    def _fragment(self, index: int, call: Json) -> None:
        calls, function = self._calls.setdefault(index, {}), call.get("function") or {}
        empty = {"id": "", "function": {"name": "", "arguments": ""}}
        kept = calls.setdefault(call.get("index", call.get("id")), empty)
        kept["id"] = kept["id"] or call.get("id") or ""
        kept["function"]["name"] = kept["function"]["name"] or function.get("name") or ""
        kept["function"]["arguments"] += function.get("arguments") or ""

    def _event(self, answer: Json) -> bytes:
        return b"data: %b\r\n\r\n" % orjson.dumps(answer)


class ArrayWriter(GeminiWriter):
    """The same in one array."""

    _before = b"["

    def end(self) -> bytes:
        return super().end() + b"]"

    def _event(self, answer: Json) -> bytes:
        before, self._before = self._before, b",\r\n"
        return before + orjson.dumps(answer) + (b"]" if "error" in answer else b"")


def _reason(reason: Any) -> str:
    """What has no reason is taken to be complete, as it came whole."""
    return STOP.get(reason, "OTHER") if reason else "STOP"


def _said(message: Mapping[str, Any]) -> Iterable[Json]:
    """Thoughts, words and parts of Gemini's own, in Gemini's order; signatures with what they sign."""
    details = message.get("reasoning_details") or []
    of_words = [one for one in details if not _is_of_call(one)]
    thoughts = [
        one for one in of_words if one.get("type") != "reasoning.encrypted" or one.get("format") != FORMAT
    ]
    texts = [one.get("text") or one.get("summary") or "" for one in thoughts]
    for detail, said in zip(thoughts, texts, strict=True):
        yield {"text": said, "thought": True} | _signature(detail)
    if not any(texts) and message.get("reasoning_content"):
        yield {"text": message["reasoning_content"], "thought": True}
    text = message.get("content") or message.get("refusal")
    signed = next((_signature(one) for one in of_words if one not in thoughts), {})
    if text or signed:
        yield {"text": text or ""} | signed
    yield from (block for block in message.get("other_blocks") or [] if "type" not in block)
    for image in message.get("images") or []:
        yield _picture(image["image_url"]["url"])


def _picture(url: str) -> Json:
    if found := inline(url):
        return {"inlineData": {"mimeType": found.kind, "data": found.data}}
    return {"fileData": {"mimeType": kind_of(url), "fileUri": url}}


def _is_of_call(detail: Json) -> bool:
    """Others give ids to thoughts of every kind (snowflake-chat_completions-e1300c9850)."""
    return detail.get("format") == FORMAT and bool(detail.get("id"))


def _signature(detail: Json) -> Json:
    """What others signed is packed, so that it comes back as it was."""
    own = detail.get("signature") or detail.get("data")
    if not own:
        return {}
    return {"thoughtSignature": own if detail.get("format") == FORMAT else packed(detail)}


def _calls(calls: Iterable[Json], signed: Mapping[str, Json]) -> Iterable[Json]:
    for call in calls:
        function, called = call.get("function") or {}, call.get("id") or ""
        made = {"name": function.get("name") or "", "args": given(function.get("arguments"))}
        yield {"functionCall": made | ({"id": called} if called else {})} | _signature(
            signed.get(called) or {}
        )


def _grounding(annotations: list[Json], text: str) -> Json:
    """Citations by their address and title, and the places of the text that they support, where those are told. Chat
    counts in characters, Google in bytes of UTF-8."""
    chunks: list[Json] = []
    supports: list[Json] = []
    for one in annotations:
        cited = one.get("url_citation") or one
        source = {
            "uri": cited.get("url") or "",
            "title": cited.get("title") or cited.get("document_title") or "",
        }
        chunk = {"web": {name: value for name, value in source.items() if value}}
        if chunk not in chunks:
            chunks.append(chunk)
        start, end = cited.get("start_index") or 0, cited.get("end_index") or 0
        if start < end <= len(text):
            ends = {"startIndex": len(text[:start].encode()), "endIndex": len(text[:end].encode())}
            segment = {**ends, "text": text[start:end]}
            supports.append({"segment": segment, "groundingChunkIndices": [chunks.index(chunk)]})
    if not chunks:
        return {}
    grounding: Json = {"groundingChunks": chunks}
    return {"groundingMetadata": grounding | ({"groundingSupports": supports} if supports else {})}


def _logprobs(found: Any) -> Json:
    content = found.get("content") if isinstance(found, dict) else None
    if not content:
        return {}
    tops = [{"candidates": [_token(other) for other in one.get("top_logprobs") or []]} for one in content]
    return {"logprobsResult": {"chosenCandidates": [_token(one) for one in content], "topCandidates": tops}}


def _token(one: Json) -> Json:
    return {"token": one.get("token", ""), "logProbability": one.get("logprob", 0.0)}
