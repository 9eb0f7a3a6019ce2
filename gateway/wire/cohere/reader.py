"""Cohere's answers as chat's: a whole one as a completion, a stream as chunks."""

from typing import Any

from gateway.wire import sse
from gateway.wire.cohere.words import annotations, chat_usage, finish, logprobs
from gateway.wire.reader import EventReader
from gateway.wire.sides import Json, Piece


def completion(answer: Any) -> Json:
    """A whole answer as a chat completion, which names no model. Raises BadStream."""
    said = answer.get("message") if isinstance(answer, dict) else None
    if not isinstance(said, dict):
        raise sse.BadStream("the answer has no message")
    parts, plan = said.get("content") or [], said.get("tool_plan") or ""
    text = plan + "".join(part.get("text") or "" for part in parts)
    message: Json = {"role": "assistant", "content": text or None, "refusal": None}
    if thought := "".join(part.get("thinking") or "" for part in parts):
        message["reasoning_content"] = thought
    if calls := said.get("tool_calls"):
        message["tool_calls"] = [_whole(call) for call in calls]
    if cited := annotations(said.get("citations") or [], len(plan)):
        message["annotations"] = cited
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs(answer.get("logprobs") or []),
        "finish_reason": finish(answer.get("finish_reason")),
    }
    usage = answer.get("usage")
    found: Json = {"id": answer.get("id", ""), "choices": [choice]}
    return {**found, "usage": chat_usage(usage)} if isinstance(usage, dict) else found


def _whole(call: Json) -> Json:
    """A call without arguments is one with an empty object."""
    function = {**call["function"], "arguments": call["function"].get("arguments") or "{}"}
    return {**call, "type": "function", "function": function}


class CohereReader(EventReader):
    """What is said before tools are called (the plan), and the text: both are chat's content."""

    def __init__(self) -> None:
        super().__init__()
        self._plan = 0  # characters
        self._calls = 0
        self._given = False  # whether the open call has had its arguments

    def _pieces(self, event: Json) -> list[Piece]:
        delta = event.get("delta") or {}
        message = delta.get("message") or {}
        match event.get("type"):
            case "content-delta" | "content-start":
                return _said(message.get("content") or {}, event.get("logprobs"))
            case "tool-plan-delta":
                plan = message.get("tool_plan") or ""
                self._plan += len(plan)
                return [_piece({"content": plan})]
            case "tool-call-start":
                return [self._call(message["tool_calls"])]
            case "tool-call-delta":
                return self._arguments(message["tool_calls"]["function"]["arguments"])
            case "tool-call-end" if not self._given:
                return self._arguments("{}")
            case "citation-start":
                cited = annotations([message["citations"]], self._plan)
                return [_piece({"annotations": cited})] if cited else []
            case "message-start":
                return [{"id": event.get("id", ""), **_piece({"role": "assistant", "content": ""})}]
            case "message-end":
                return self._end(event | delta)
            case None | "error" if isinstance(event.get("message"), str):
                return [_error(event["message"], event)]
        return []  # the end of a part, or an event that came after this was written

    def _call(self, call: Json) -> Piece:
        self._calls += 1
        function = {"name": call["function"]["name"], "arguments": call["function"].get("arguments") or ""}
        self._given = bool(function["arguments"])
        made = {"index": self._calls - 1, "id": call.get("id", ""), "type": "function", "function": function}
        return _piece({"tool_calls": [made]})

    def _arguments(self, text: str) -> list[Piece]:
        if not text:
            return []
        self._given = True
        return [_piece({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]})]

    def _end(self, ending: Json) -> list[Piece]:
        """A generation may fail when its stream is well under way."""
        usage = ending.get("usage")
        told: list[Piece] = [{"choices": [], "usage": chat_usage(usage)}] if isinstance(usage, dict) else []
        reason = finish(ending.get("finish_reason"))
        if reason == "error":
            why = ending.get("error") or f"the generation ended in {ending['finish_reason']}"
            return [*told, _error(str(why), ending)]
        self.finished = True
        return [_piece({}, reason), *told]


def _said(content: Json, chances: Any) -> list[Piece]:
    """A piece of text or of a thought."""
    if thought := content.get("thinking"):
        return [_piece({"reasoning_content": thought})]
    if not (text := content.get("text")):
        return []
    piece = _piece({"content": text})
    if isinstance(chances, dict):
        piece["choices"][0]["logprobs"] = logprobs([chances])
    return [piece]


def _piece(delta: Json, reason: str | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _error(message: str, event: Json) -> Piece:
    return {"error": {"message": message, "type": "api_error", "code": event.get("error_type")}}
