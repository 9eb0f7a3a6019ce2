"""OpenAI's chat as the house language: what a crossing does on the side that speaks chat already."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.wire import sse
from gateway.wire.base import Changes
from gateway.wire.chat import CAPS, usage_of
from gateway.wire.fields import cached_tokens, text
from gateway.wire.fit import HINTS, fit, lacks
from gateway.wire.gathered import Held
from gateway.wire.reason import NO_REASON, reason
from gateway.wire.reasoners import drop_sampling
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json, Piece

# Ends that OpenAI has another word for: of Together, TGI, Mistral, DeepSeek and Z.ai. A failed generation is an
# `error`, as OpenRouter calls it.
_REASONS = {
    "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "model_length": "length",
    "model_context_window_exceeded": "length", "sensitive": "content_filter", "network_error": "error",
    "insufficient_system_resource": "error",
}  # fmt: skip
_EMPTY_ERROR: Json = {"type": "api_error", "param": None, "code": None}
_TYPES = {401: "invalid_request_error", 403: "invalid_request_error", 404: "invalid_request_error",
          429: "rate_limit_error"}  # fmt: skip


class ChatFront:
    """A chat client before a provider of another format."""

    def to_chat(self, payload: Mapping[str, Any], refusals: Refusals) -> Json:
        return dict(payload)

    def place(self, where: str) -> str:
        return where

    def writer(self, asked: Mapping[str, Any], moment: int, ident: str = "") -> "ChatWriter":
        options = asked.get("stream_options")
        usage = isinstance(options, dict) and options.get("include_usage") is True
        named = {"model": asked["model"]} if "model" in asked else {}
        return ChatWriter(moment, usage, {"id": f"chatcmpl-{ident}", **named})

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        kind = (
            error.get("type")
            or _TYPES.get(status)
            or ("invalid_request_error" if status < 500 else "api_error")
        )
        body = {"message": message, "type": kind, "param": error.get("param"), "code": error.get("code")}
        return orjson.dumps({"error": body})


class ChatWriter:
    """Writes as OpenAI does: one id and model throughout, usage last and only where asked for. `head` holds both
    for providers that name none."""

    tells_failure = tells_media = True

    def __init__(self, moment: int, usage: bool, head: Json) -> None:
        self._asked_usage = usage
        self._usage: Any = None
        self._head: Json = {**head, "object": "chat.completion.chunk", "created": moment}
        self._held = Held()

    def whole(self, completion: Json) -> Json:
        for choice in completion["choices"]:
            for call in choice["message"].get("tool_calls") or ():
                call.pop("after", None)  # for dialects that hold words behind calls
        return {**self._head, "object": "chat.completion", **completion}

    def write(self, piece: Piece) -> bytes:
        if "error" in piece:
            return b"data: " + orjson.dumps({"error": {**_EMPTY_ERROR, **piece["error"]}}) + b"\n\n"
        for name in ("id", "model"):
            if name in piece:
                self._head[name] = piece[name]
        self._usage = piece.get("usage") or self._usage
        for choice in piece["choices"]:
            self._held.hold(choice)
        return self._chunk(piece["choices"], None) if piece["choices"] else b""

    def end(self) -> bytes:
        rest = self._held.rest()
        told = self._chunk(rest, None) if rest else b""
        usage = self._chunk([], self._usage) if self._asked_usage and self._usage else b""
        return told + usage + b"data: [DONE]\n\n"

    def _chunk(self, choices: Any, usage: Any) -> bytes:
        chunk = {**self._head, "choices": choices} | ({"usage": usage} if self._asked_usage else {})
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


class ChatBack:
    """A chat provider behind a client of another dialect."""

    def from_chat(self, chat: Json, changes: Changes) -> Json:
        body = {**changes.params, **chat}
        cap = body.pop("max_completion_tokens", None)
        if cap is not None:
            for name in CAPS:
                body.pop(name, None)
            body[changes.cap_name] = cap
        quirks = changes.quirks
        if quirks.gives_usage:
            body.pop("stream_options", None)
        refusals = Refusals("this provider's chat", changes.dropped, changes.left_out)
        lacks(quirks).tell(chat, refusals)
        for name in sorted(quirks.refuses & body.keys()):
            if name not in HINTS:
                refusals.add(name)
            del body[name]
        drop_sampling(body, text(chat, "model"), text(chat, "reasoning_effort"), refusals)
        body["messages"] = [fit(message, quirks) for message in chat["messages"]]
        return body

    def completion(self, answer: Any) -> Json:
        if (
            not isinstance(answer, dict)
            or not isinstance(answer.get("choices"), list)
            or not answer["choices"]
        ):
            raise sse.BadStream("the answer has no choices")
        choices = []
        for choice in answer["choices"]:
            message = _settled(choice.get("message") or {})
            if found := _sources(answer):
                message["annotations"] = message.get("annotations") or found
            for place, call in enumerate(message.get("tool_calls") or []):
                call["id"] = call.get("id") or f"{answer.get('id') or 'call'}-{place}"
            choices.append({**_ended(choice), "message": message})
        return {**answer, "choices": choices, "usage": _counted(answer.get("usage"))}

    def reader(self) -> "ChatReader":
        return ChatReader()

    def error(self, body: bytes) -> Json:
        """OpenAI's object, or what its relatives write in its place: a bare text, `message`, `detail`."""
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            return {"message": reason(body) or NO_REASON}
        error = told.get("error", told) if isinstance(told, dict) else told
        if isinstance(error, dict):
            message = error.get("message") or error.get("detail")
            code = error.get("code")
            return {
                "message": message if isinstance(message, str) else orjson.dumps(error).decode(),
                "type": error.get("type"),
                "param": error.get("param"),
                "code": code if code is None else str(code),
            }
        code = told.get("code") if isinstance(told, dict) else None  # xAI: {"code": …, "error": "a text"}
        return {"message": str(error), "code": code if code is None else str(code)}


class ChatReader:
    """Chunks of a chat stream, whatever its provider calls reasoning."""

    complete = False

    def __init__(self, splitter: sse.Splitter | None = None) -> None:
        self._splitter = splitter or sse.Splitter()
        self._has_reason = False
        self._seen: dict[Any, Any] = {}  # the ids of the calls so far, by index
        self._moved: dict[Any, int] = {}  # where calls stand whose provider gives all the same index
        self.finished = False

    def feed(self, chunk: bytes) -> Sequence[Piece]:
        return self._read(self._splitter.feed(chunk))

    def rest(self) -> Sequence[Piece]:
        """Not every provider says [DONE]; one that has said why it stops is complete at its end."""
        pieces = self._read(self._splitter.rest())
        self.finished = self.finished or self._has_reason
        return pieces

    def _read(self, block: bytes) -> list[Piece]:
        found: list[Piece] = []
        for event in sse.events(block):
            data = sse.data(event).strip()
            if data == b"[DONE]":
                self.finished = True
            elif data:
                found.append(
                    {"error": ChatBack().error(data)}
                    if b"error" in event and sse.tells_error(event)
                    else self._piece(data)
                )
        return found

    def _piece(self, data: bytes) -> Piece:
        piece = sse.parsed(data)
        choices = piece.get("choices")
        choices = choices if isinstance(choices, list) else []
        for choice in choices:
            choice["delta"] = _settled(_ended(choice).get("delta") or {})
            if choice.get("finish_reason") and (found := _sources(piece)):
                choice["delta"]["annotations"] = choice["delta"].get("annotations") or found
            for call in choice["delta"].get("tool_calls") or []:
                self._place(call, str(piece.get("id") or "call"))
            self._has_reason = self._has_reason or bool(choice.get("finish_reason"))
        return {**piece, "choices": choices, "usage": _counted(usage_of(piece))}

    def _place(self, call: Json, answer: str) -> None:
        """Mistral leaves out the index of calls that come whole, Google's chat endpoint has had them all at 0, and some
        servers leave out ids."""
        function, index, ident = call.get("function") or {}, call.get("index"), call.get("id")
        place = self._moved.get(index, index)
        if index is None:
            place = len(self._seen) if function.get("name") else max(len(self._seen) - 1, 0)
        elif ident and function.get("name") and self._seen.get(place, ident) != ident:
            known = [one for one, its in self._seen.items() if its == ident]
            place = self._moved[index] = known[0] if known else max(self._seen) + 1
        call["index"] = place
        if place not in self._seen:
            call["id"] = self._seen[place] = ident or f"{answer}-{place}"


def _ended(choice: Json) -> Json:
    """A choice whose finish reason, if it has one, is a text, and one of OpenAI's where that has a word for it."""
    reason = choice.get("finish_reason")
    if reason == "null":  # as DashScope writes that there is none yet
        choice["finish_reason"] = None
    elif reason is not None:
        choice.setdefault("native_finish_reason", str(reason))  # as OpenRouter calls it
        choice["finish_reason"] = _REASONS.get(str(reason), str(reason))
    return choice


def _settled(message: Json) -> Json:
    """A message or delta with its reasoning under one name, and content that is text."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content")
    if isinstance(content, list):  # Mistral's, where it thinks
        parts = [part for part in content if isinstance(part, dict)]
        thoughts = [_text(part["thinking"]) for part in parts if part.get("type") == "thinking"]
        thought = thought or "".join(thoughts)
        message["content"] = "".join(
            str(part.get("text", "")) for part in parts if part.get("type") == "text"
        )
    if thought:
        message["reasoning_content"] = thought
    return message


def _counted(usage: Any) -> Any:
    """Usage that tells where OpenAI does what came from a cache."""
    if (
        not isinstance(usage, dict)
        or usage.get("prompt_tokens_details")
        or not (cached := cached_tokens(usage))
    ):
        return usage
    return {**usage, "prompt_tokens_details": {"cached_tokens": cached}}


def _sources(answer: Mapping[str, Any]) -> list[Json]:
    """Pages that an answer refers to by their number, `[1]`: Perplexity names them beside it, in all chunks of a stream
    (perplexity-chat_completions-dfae2e1008). Where they stand is not told: a place of 0 to 0, as OpenRouter has it for
    the same model (openrouter-chat_completions-e16bd20ba4)."""
    listed = answer.get("search_results") or answer.get("citations")
    found = []
    for one in listed if isinstance(listed, list) else ():
        page = {"url": one} if isinstance(one, str) else one if isinstance(one, dict) else {}
        if isinstance(page.get("url"), str):
            cited = {"url": page["url"], "title": page.get("title") or "", "start_index": 0, "end_index": 0}
            cited |= {"content": page["snippet"]} if page.get("snippet") else {}
            found.append({"type": "url_citation", "url_citation": cited})
    return found


def _text(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
