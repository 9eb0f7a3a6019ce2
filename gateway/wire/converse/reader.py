"""Converse's stream as chat chunks."""

from collections.abc import Sequence

from gateway.wire import sse
from gateway.wire.converse.words import EXCEPTIONS, citation, ending, hidden, is_call, thought, usage_of
from gateway.wire.eventstream import Message, Splitter
from gateway.wire.sides import Json, Piece
from gateway.wire.thoughts import after


class ConverseReader:
    """Blocks come one after the other; those of text and of thinking begin without a word, at their first delta."""

    complete = False

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._calls = self._details = self._said = 0  # of the text, its characters
        self._kind = ""  # of the open block: call | thought | other, "" for text
        self._given = False  # whether the open call has had its arguments
        self._stopped = False
        self.finished = False

    def feed(self, chunk: bytes) -> Sequence[Piece]:
        found: list[Piece] = []
        for message in self._splitter.feed(chunk):
            found += self._pieces(message)
        return found

    def rest(self) -> Sequence[Piece]:
        """A stream that has said why it stops is complete at its end, should its usage be missing."""
        self.finished = self.finished or (self._stopped and not self._splitter.held)
        return []

    def _pieces(self, message: Message) -> list[Piece]:
        event = parsed(message.payload)
        if message.exception:
            return [{"error": failed(message, event)}]
        match message.headers.get(":event-type"):
            case "messageStart":
                return [_piece({"role": "assistant", "content": ""})]
            case "contentBlockStart":
                return self._start(event)
            case "contentBlockDelta":
                return self._delta(event.get("delta") or {})
            case "contentBlockStop":
                return self._stop()
            case "messageStop":
                self._stopped = True
                return [{"choices": [{"index": 0, "delta": {}, **ending(event)}]}]
            case "metadata":
                self.finished = True
                usage = event.get("usage")
                return [{"choices": [], "usage": usage_of(usage)}] if isinstance(usage, dict) else []
        return []  # an event that came after this was written

    def _start(self, event: Json) -> list[Piece]:
        start = event.get("start") or {}
        if not is_call(start):
            self._kind = "other"
            return [_piece({"other_blocks": [start]})]
        self._kind, self._given = "call", False
        self._calls += 1
        use = start["toolUse"]
        function = {"name": use.get("name", ""), "arguments": ""}
        return [self._call({"id": use.get("toolUseId", ""), "type": "function", "function": function})]

    def _delta(self, delta: Json) -> list[Piece]:
        if self._kind == "call" and "toolUse" in delta:
            given = delta["toolUse"].get("input") or ""
            self._given = self._given or bool(given)
            return [self._call({"function": {"arguments": given}})] if given else []
        if "text" in delta:
            self._said += len(delta["text"])
            return [_piece({"content": delta["text"]})]
        if "reasoningContent" in delta:
            return self._thought(delta["reasoningContent"])
        if "citation" in delta:
            return [_piece({"annotations": [citation(delta["citation"])]})]
        return [_piece({"other_blocks": [delta]})]

    def _thought(self, content: Json) -> list[Piece]:
        if self._kind != "thought":
            self._kind = "thought"
            self._details += 1
        index, place = self._details - 1, after(self._said, self._calls)
        if "redactedContent" in content:
            return [_piece({"reasoning_details": [hidden(content["redactedContent"], index) | place]})]
        said, signature = content.get("text") or "", content.get("signature") or ""
        detail = thought(said, signature, index) | (place if signature else {})
        return [_piece({"reasoning_content": said, "reasoning_details": [detail]} if said else
                       {"reasoning_details": [detail]})]  # fmt: skip

    def _stop(self) -> list[Piece]:
        """A call without arguments is one with an empty object."""
        kind, self._kind = self._kind, ""
        if kind != "call" or self._given:
            return []
        return [self._call({"function": {"arguments": "{}"}})]

    def _call(self, fragment: Json) -> Json:
        return _piece({"tool_calls": [{"index": self._calls - 1, **fragment}]})


def parsed(payload: bytes) -> Json:
    """An event; some exceptions tell all in their headers. Raises BadStream."""
    return sse.parsed(payload or b"{}")


def failed(message: Message, event: Json) -> Json:
    """An exception in the middle of a stream as OpenAI's error object."""
    status, kind = EXCEPTIONS.get(message.exception, (502, "api_error"))
    told = event.get("message") or event.get("Message") or message.headers.get(":error-message")
    return {"message": f"{message.exception}: {told or 'no reason given'}", "type": kind, "code": status}


def _piece(delta: Json) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
