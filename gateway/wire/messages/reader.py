"""Anthropic's stream as chat chunks."""

from collections.abc import Sequence

import orjson

from gateway.wire.fields import part
from gateway.wire.messages.words import FORMAT, chat_usage, finish, prompt_tokens
from gateway.wire.reader import EventReader
from gateway.wire.sides import Json, Piece
from gateway.wire.thoughts import after


class MessagesReader(EventReader):
    """Blocks come one after the other; only the kind of the open one and the number of calls are kept."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: Json = {}
        self._calls = self._details = self._said = 0  # of the text, its characters
        self._kind = ""
        self._ended = False  # whether it was said why
        self._given = False  # whether the open call has had its arguments

    def rest(self) -> Sequence[Piece]:
        """A stream that has said why it stops is complete at its end. Raises BadStream."""
        pieces = [*super().rest()]
        return [*pieces, self._stopped()] if self._ended and not self.finished else pieces

    def _stopped(self) -> Piece:
        self.finished = True
        return {"choices": [], "usage": chat_usage(self._usage)}

    def _pieces(self, event: Json) -> list[Piece]:
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event)
            case "content_block_start":
                return self._start(event.get("content_block") or {})
            case "content_block_stop":
                return self._stop()
            case "message_start":
                message = event.get("message") or {}
                self._usage |= part(message, "usage")
                piece = _piece({"role": "assistant", "content": ""})
                head = {"id": message.get("id", ""), "model": message.get("model", "")}
                return [{**head, "prompt": prompt_tokens(self._usage), **piece}]
            case "message_delta":
                return self._end(event)
            case "message_stop":
                return [self._stopped()]
            case "error":
                error = event.get("error") or {"message": event.get("message", "")}
                return [{"error": {"message": str(error.get("message", "")), "type": error.get("type")}}]
        return []  # a ping, or an event that came after this was written

    def _start(self, block: Json) -> list[Piece]:
        self._kind = kind = block.get("type", "")
        self._given = False
        if kind == "tool_use":
            self._calls += 1
            given = orjson.dumps(block["input"]).decode() if block.get("input") else ""
            self._given = bool(given)
            function = {"name": block.get("name", ""), "arguments": given}
            call = {
                "index": self._calls - 1,
                "id": block.get("id", ""),
                "type": "function",
                "function": function,
            }
            return [_piece({"tool_calls": [call]})]
        if kind == "thinking":
            self._details += 1
            return self._thought(block.get("thinking", ""), block.get("signature", ""))
        if kind == "redacted_thinking":
            self._details += 1
            hidden: Json = {"type": "reasoning.encrypted", "data": block.get("data", ""), "format": FORMAT}
            place = {"index": self._details - 1, **after(self._said, self._calls)}
            return [_piece({"reasoning_details": [hidden | place]})]
        if kind == "text":
            return self._text(block["text"]) if block.get("text") else []
        return [_piece({"other_blocks": [block]})]

    def _delta(self, event: Json) -> list[Piece]:
        delta = event.get("delta") or {}
        match delta.get("type"):
            case "text_delta":
                return self._text(delta.get("text", ""))
            case "input_json_delta" if self._kind == "tool_use":
                if not (text := delta.get("partial_json", "")):
                    return []
                self._given = True
                return [_piece({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]})]
            case "thinking_delta":
                return self._thought(delta.get("thinking", ""), "")
            case "signature_delta":
                return self._thought("", delta.get("signature", ""))
            case "citations_delta":
                return [_piece({"annotations": [delta.get("citation")]})]
        return [_piece({"other_blocks": [event]})]

    def _text(self, text: str) -> list[Piece]:
        self._said += len(text)
        return [_piece({"content": text})]

    def _stop(self) -> list[Piece]:
        """A call without arguments is one with an empty object."""
        kind, self._kind = self._kind, ""
        if kind != "tool_use" or self._given:
            return []
        return [_piece({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": "{}"}}]})]

    def _end(self, event: Json) -> list[Piece]:
        self._usage |= {name: one for name, one in part(event, "usage").items() if one is not None}
        delta = event.get("delta") or {}
        piece = _piece({}, finish(delta.get("stop_reason")))
        self._ended = self._ended or bool(delta.get("stop_reason"))
        if delta.get("stop_sequence") is not None:
            piece["choices"][0]["stop_reason"] = delta["stop_sequence"]
        return [piece]

    def _thought(self, text: str, signature: str) -> list[Piece]:
        if not text and not signature:
            return []
        # A client's SDK runs together what each piece of a thought says: its format is told with the signature alone.
        detail: Json = {"type": "reasoning.text", "text": text, "index": self._details - 1}
        if signature:
            detail |= {"signature": signature, "format": FORMAT, **after(self._said, self._calls)}
        return [_piece({"reasoning_content": text, "reasoning_details": [detail]} if text else
                       {"reasoning_details": [detail]})]  # fmt: skip


def _piece(delta: Json, reason: str | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
