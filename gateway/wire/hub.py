"""OpenAI's chat as the house language: what a crossing does on the side that speaks chat already."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.wire import sse
from gateway.wire.base import Changes
from gateway.wire.chat import CAPS, usage_of
from gateway.wire.crossing import Json, Piece

# What other formats need kept and OpenAI's chat has no field for; a chat provider would refuse it.
EXTRAS = ("reasoning_content", "reasoning_details", "other_blocks", "annotations")
_TYPES = {401: "invalid_request_error", 403: "invalid_request_error", 404: "invalid_request_error",
          429: "rate_limit_error"}  # fmt: skip


class ChatFront:
    """A chat client before a provider of another format."""

    def to_chat(self, payload: Mapping[str, Any]) -> Json:
        return dict(payload)

    def teller(self, asked: Mapping[str, Any], moment: int) -> "ChatTeller":
        options = asked.get("stream_options")
        return ChatTeller(moment, isinstance(options, dict) and options.get("include_usage") is True)

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        kind = (
            error.get("type")
            or _TYPES.get(status)
            or ("invalid_request_error" if status < 500 else "api_error")
        )
        body = {"message": message, "type": kind, "param": error.get("param"), "code": error.get("code")}
        return orjson.dumps({"error": body})


class ChatTeller:
    """Writes as OpenAI does: one id and model throughout, usage last and only where asked for."""

    def __init__(self, moment: int, usage: bool) -> None:
        self._moment, self._usage = moment, usage
        self._head: Json = {"object": "chat.completion.chunk", "created": moment}

    def whole(self, completion: Json) -> Json:
        return {"object": "chat.completion", "created": self._moment, **completion}

    def write(self, piece: Piece) -> bytes:
        if "error" in piece:
            return (
                b"data: " + orjson.dumps({"error": {"param": None, "code": None, **piece["error"]}}) + b"\n\n"
            )
        for name in ("id", "model"):
            if name in piece:
                self._head[name] = piece[name]
        if not piece["choices"] and not (self._usage and piece.get("usage")):
            return b""
        usage = {"usage": piece.get("usage") if not piece["choices"] else None} if self._usage else {}
        chunk = {**self._head, "choices": piece["choices"], **usage}
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"


class ChatBack:
    """A chat provider behind a client of another dialect."""

    def from_chat(self, chat: Json, changes: Changes) -> Json:
        body = {**changes.params, **chat}
        cap = body.pop("max_completion_tokens", None)
        if cap is not None:
            for name in CAPS:
                body.pop(name, None)
            body[changes.cap_name] = cap
        body["messages"] = [_plain(message) for message in chat["messages"]]
        return body

    def completion(self, answer: Any) -> Json:
        if (
            not isinstance(answer, dict)
            or not isinstance(answer.get("choices"), list)
            or not answer["choices"]
        ):
            raise sse.BadStream("the answer has no choices")
        choices = [
            {**choice, "message": _settled(choice.get("message") or {})} for choice in answer["choices"]
        ]
        return {**answer, "choices": choices}

    def reader(self) -> "ChatReader":
        return ChatReader()

    def error(self, body: bytes) -> Json:
        """OpenAI's object, or what its relatives write in its place: a bare text, `message`, `detail`."""
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            return {"message": body[:1000].decode("utf-8", "replace") or "the provider gave no reason"}
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
        return {"message": str(error)}


class ChatReader:
    """Chunks of a chat stream, whatever its provider calls reasoning."""

    def __init__(self) -> None:
        self._splitter = sse.Splitter()
        self._has_reason = False
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
                found.append(self._piece(data))
        return found

    def _piece(self, data: bytes) -> Piece:
        try:
            piece = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise sse.BadStream("an event is not valid JSON") from None
        if not isinstance(piece, dict):
            raise sse.BadStream("an event is no object")
        if piece.get("error"):
            return {"error": ChatBack().error(data)}
        choices = piece.get("choices")
        if not isinstance(choices, list):
            return {"choices": []}
        for choice in choices:
            choice["delta"] = _settled(choice.get("delta") or {})
            self._has_reason = self._has_reason or bool(choice.get("finish_reason"))
        return piece if piece.get("usage") else {**piece, "usage": usage_of(piece)}


def _plain(message: Mapping[str, Any]) -> Json:
    return {name: value for name, value in message.items() if name not in EXTRAS}


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


def _text(parts: Any) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
