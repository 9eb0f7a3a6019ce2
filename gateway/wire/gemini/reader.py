"""Gemini's answers as chat's: a whole one as a completion, a stream as chunks."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.wire import sse
from gateway.wire.fields import loaded
from gateway.wire.gemini.words import FORMAT, KINDS, MADE, chat_usage, finish
from gateway.wire.sides import Json, Piece
from gateway.wire.thoughts import bare, say

_KNOWN = frozenset(
    {"content", "finishReason", "index", "logprobsResult", "citationMetadata", "avgLogprobs", "tokenCount"}
)
_CITING = frozenset({"groundingMetadata", "citationMetadata"})


class _Candidate:
    """One candidate as it grows: what is counted over its parts, and its text, to which citations point."""

    def __init__(self) -> None:
        self.calls = self.details = 0
        self.text = ""
        self.cited: list[Json] = []

    def delta(self, candidate: Json, answer_id: str) -> Json:
        delta: Json = {}
        content = candidate.get("content")
        for part in (content.get("parts") or []) if isinstance(content, dict) else []:
            self._add(delta, part, answer_id)
        if not _CITING.isdisjoint(candidate):
            cited = [one for one in _annotations(candidate, self.text) if one not in self.cited]
            self.cited += cited
            delta |= {"annotations": cited} if cited else {}
        return delta

    def _add(self, delta: Json, part: Json, answer_id: str) -> None:
        signature = part.get("thoughtSignature")
        if "functionCall" in part:
            self._add_call(delta, part["functionCall"], signature, answer_id)
        elif isinstance(text := part.get("text"), str) and part.get("thought"):
            delta["reasoning_content"] = delta.get("reasoning_content", "") + text
            detail = {"type": "reasoning.text", "text": text}
            self._add_detail(delta, detail | ({"signature": signature} if signature else {}))
        elif isinstance(text, str):
            say(delta, text)
            self.text += text
            if signature:
                self._add_detail(delta, {"type": "reasoning.encrypted", "data": signature})
        else:
            delta.setdefault("other_blocks", []).append(part)

    def _add_call(self, delta: Json, call: Json, signature: Any, answer_id: str) -> None:
        """Its signature is told twice: as Google's own OpenAI endpoint does, and as other gateways do."""
        made = call.get("id") or f"{MADE}{answer_id}_{self.calls}"
        function = {"name": call.get("name", ""), "arguments": orjson.dumps(call.get("args") or {}).decode()}
        entry: Json = {"index": self.calls, "id": made, "type": "function", "function": function}
        self.calls += 1
        if signature:
            entry["extra_content"] = {"google": {"thought_signature": signature}}
            self._add_detail(delta, {"type": "reasoning.encrypted", "data": signature, "id": made})
        delta.setdefault("tool_calls", []).append(entry)

    def _add_detail(self, delta: Json, detail: Json) -> None:
        delta.setdefault("reasoning_details", []).append({**detail, "format": FORMAT, "index": self.details})
        self.details += 1

    def ending(self, candidate: Json) -> Json:
        """What stands beside the delta: the reason, log probabilities, and what chat has no word for."""
        reason = finish(candidate.get("finishReason"))
        if reason == "stop" and self.calls:
            reason = "tool_calls"
        more = {name: candidate[name] for name in candidate.keys() - _KNOWN}
        if reason is not None:
            more["native_finish_reason"] = candidate["finishReason"]
        found = {"finish_reason": reason, "logprobs": _logprobs(candidate.get("logprobsResult"))}
        return {"index": candidate.get("index") or 0, **found, **more}


def completion(answer: Any) -> Json:
    """A whole answer as a chat completion. Raises BadStream."""
    if not isinstance(answer, dict):
        raise sse.BadStream("the answer is no object")
    blocked = _blocked(answer)
    candidates = answer.get("candidates")
    if not blocked and not (isinstance(candidates, list) and candidates):
        raise sse.BadStream("the answer has no candidates")
    choices = []
    for candidate in candidates or []:
        growing = _Candidate()
        message: Json = {"role": "assistant", "content": None, "refusal": None}
        message |= growing.delta(candidate, answer.get("responseId", ""))
        for call in message.get("tool_calls") or ():
            del call["index"]
        choices.append({"message": message, **growing.ending(candidate)})
    if blocked:
        message = {"role": "assistant", "content": None, "refusal": blocked}
        choices = [{"index": 0, "message": message, "finish_reason": "content_filter", "logprobs": None}]
    found = {"id": answer.get("responseId", ""), "model": answer.get("modelVersion", ""), "choices": choices}
    usage = answer.get("usageMetadata")
    return {**found, "usage": chat_usage(usage)} if isinstance(usage, dict) else found


class GeminiReader:
    """Every event is an answer of its own, its usage that of all so far. The end of the body is the end; all streams on
    record end in an event with both reason and usage."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._growing: dict[int, _Candidate] = {}
        self._usage: Json | None = None
        self._has_reason = False
        self.finished = self.complete = False

    def feed(self, chunk: bytes) -> Sequence[Piece]:
        return self._read(self._splitter.feed(chunk))

    def rest(self) -> Sequence[Piece]:
        pieces = self._read(self._splitter.rest())
        self.finished = self._has_reason
        if self._usage is not None:
            pieces.append({"choices": [], "usage": chat_usage(self._usage)})
        return pieces

    def _read(self, block: bytes) -> list[Piece]:
        return [self._piece(data) for event in sse.events(framed(block)) if (data := sse.data(event).strip())]

    def _piece(self, data: bytes) -> Piece:
        answer = sse.parsed(data)
        if isinstance(error := answer.get("error"), dict):
            named = error.get("status")
            kind = KINDS.get(str(named), "api_error")
            return {"error": {"message": str(error.get("message", "")), "type": kind, "code": named}}
        usage = answer.get("usageMetadata")
        self._usage = usage if isinstance(usage, dict) else self._usage
        choices = [self._choice(one, answer.get("responseId", "")) for one in answer.get("candidates") or ()]
        if blocked := _blocked(answer):
            delta = {"role": "assistant", "refusal": blocked}
            choices = [{"index": 0, "delta": delta, "finish_reason": "content_filter"}]
        self._has_reason = self._has_reason or any(one["finish_reason"] for one in choices)
        self.complete = self._has_reason and isinstance(usage, dict)
        return {
            "id": answer.get("responseId", ""),
            "model": answer.get("modelVersion", ""),
            "choices": choices,
        }

    def _choice(self, candidate: Json, answer_id: str) -> Json:
        index, role = candidate.get("index") or 0, {}
        if index not in self._growing:
            self._growing[index] = _Candidate()
            role = {"role": "assistant"}
        growing = self._growing[index]
        delta = growing.delta(candidate, answer_id)
        if "tool_calls" in delta:  # their places are those in a whole message
            delta["tool_calls"] = list(map(bare, delta["tool_calls"]))
        return {"delta": {**role, **delta}, **growing.ending(candidate)}


def framed(block: bytes) -> bytes:
    """Events, with an error that stands bare among them as one of them: Google writes it line by line, without `data:`
    (google-genai, _api_client.py, _iter_response_stream)."""
    return b"".join(map(_framed, sse.events(block))) if b'"error"' in block else block


def _framed(event: bytes) -> bytes:
    bare = loaded(event)
    return b"data: %b\r\n\r\n" % orjson.dumps(bare) if bare.get("error") else event


def _blocked(answer: Mapping[str, Any]) -> str:
    """Why the prompt was not answered at all; "" where it was."""
    feedback = answer.get("promptFeedback")
    if not isinstance(feedback, dict) or not feedback.get("blockReason") or answer.get("candidates"):
        return ""
    return str(feedback.get("blockReasonMessage") or f"the prompt was blocked: {feedback['blockReason']}")


def _annotations(candidate: Json, text: str) -> list[Json]:
    """Sources of parts of the text, in chat's words; of the text as a whole where none of its parts is told. Google
    counts in bytes of UTF-8, chat in characters."""
    grounding = candidate.get("groundingMetadata") or {}
    chunks = grounding.get("groundingChunks") or []
    raw = text.encode()
    supports = grounding.get("groundingSupports") or []
    found = [] if supports else [_citation(raw, {}, next(iter(chunk.values()), {})) for chunk in chunks]
    for support in supports:
        for place in support.get("groundingChunkIndices") or []:
            source: Json = next(iter(chunks[place].values()), {}) if place < len(chunks) else {}
            found.append(_citation(raw, support.get("segment") or {}, source))
    cited = (candidate.get("citationMetadata") or {}).get("citations") or []
    return found + [_citation(raw, one, one) for one in cited]


def _citation(raw: bytes, segment: Json, source: Json) -> Json:
    start, end = (len(raw[: segment.get(name) or 0].decode("utf-8", "ignore")) for name in
                  ("startIndex", "endIndex"))  # fmt: skip
    cited = {
        "start_index": start,
        "end_index": end,
        "url": source.get("uri", ""),
        "title": source.get("title", ""),
    }
    said = {"content": source["text"]} if source.get("text") else {}
    return {"type": "url_citation", "url_citation": cited | said}


def _logprobs(result: Any) -> Json | None:
    if not isinstance(result, dict):
        return None
    tops = result.get("topCandidates") or []
    content = []
    for place, chosen in enumerate(result.get("chosenCandidates") or []):
        others = (tops[place].get("candidates") or []) if place < len(tops) else []
        content.append({**_token(chosen), "top_logprobs": [_token(one) for one in others]})
    return {"content": content, "refusal": None}


def _token(one: Json) -> Json:
    text = one.get("token") or ""
    return {"token": text, "logprob": one.get("logProbability") or 0.0, "bytes": list(text.encode())}
