"""Responses' stream as chat chunks."""

from typing import Any

from gateway.wire.reader import EventReader
from gateway.wire.responses.words import chat_usage, finish, unseal
from gateway.wire.sides import Json, Piece

_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
_TOLD_BIT_BY_BIT = frozenset({"message", "reasoning", *_CALLS})


class ResponsesReader(EventReader):
    """What an item says comes bit by bit; of items that chat has no word for, each comes whole at its end. Some servers
    tell items in the last event alone."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Any, int] = {}  # the index in chat of the call at a place of the output
        self._given: set[Any] = set()  # places of calls that were given something
        self._thinks = False  # whether the open thought has said something
        self._details = 0
        self._spoken: set[Any] = set()  # places of messages that have said something
        self._told: set[Any] = set()  # kinds of other items, of which some have been told

    def _pieces(self, event: Json) -> list[Piece]:
        match event.get("type"):
            case "response.output_text.delta":
                self._spoken.add(event.get("output_index"))
                return [_piece({"content": event["delta"]}, logprobs=_logprobs(event))]
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                return self._fragment(event)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._thinks = True
                self._told.add("reasoning")
                return [_piece({"reasoning_content": event["delta"]})]
            case "response.reasoning_summary_part.added" if self._thinks:
                return [_piece({"reasoning_content": "\n\n"})]
            case "response.refusal.delta":
                self._spoken.add(event.get("output_index"))
                return [_piece({"refusal": event["delta"]})]
            case "response.output_text.annotation.added":
                return [_piece({"annotations": [annotated(event["annotation"])]})]
            case "response.output_item.added":
                return self._begun(event["output_index"], event["item"])
            case "response.output_item.done":
                return self._done(event["output_index"], event["item"])
        return self._of_the_whole(event)

    def _of_the_whole(self, event: Json) -> list[Piece]:
        response = event.get("response") or {}
        match event.get("type"):
            case "response.created":
                head = {"id": response.get("id", ""), "model": response.get("model", "")}
                return [{**head, **_piece({"role": "assistant", "content": ""})}]
            case "response.completed" | "response.incomplete":
                self.finished = True
                untold, reason = self._untold(response), finish(response)
                reason = "tool_calls" if reason == "stop" and self._calls else reason  # whatever it holds
                return [*untold, _piece({}, reason), *_usage(response)]
            case "response.failed" | "error":
                error = response.get("error") or event.get("error") or event
                named = {"message": str(error.get("message") or ""), "code": error.get("code")}
                kind = _TYPES.get(str(error.get("code")), "api_error")
                return [*_usage(response), {"error": {**named, "type": kind}}]
        return []  # an event that says again what was said, or one that came after this was written

    def _begun(self, place: int, item: Json) -> list[Piece]:
        if item.get("type") == "reasoning":
            self._thinks = False
        if item.get("type") not in _CALLS:
            return []
        kind, field = _CALLS[item["type"]]
        index = self._calls[place] = len(self._calls)
        if given := item.get(field) or "":
            self._given.add(place)
        named = {"name": item.get("name", ""), field: given}
        call: Json = {"index": index, "id": item.get("call_id", ""), "type": kind, kind: named}
        return [_piece({"tool_calls": [call]})]

    def _fragment(self, event: Json) -> list[Piece]:
        kind, field = _CALLS["function_call" if "arguments" in event["type"] else "custom_tool_call"]
        place = event["output_index"]
        self._given.add(place)
        call: Json = {"index": self._calls[place], kind: {field: event["delta"]}}
        return [_piece({"tool_calls": [call]})]

    def _done(self, place: int, item: Json) -> list[Piece]:
        """What of an item was not told before: messages and calls whose words come at once, signatures, items of other
        kinds."""
        kind = item.get("type")
        self._told.add(kind)
        if kind not in _TOLD_BIT_BY_BIT:
            return [_piece({"other_blocks": [item]})]
        if kind == "reasoning":
            return self._thought(item)
        if kind == "message":  # a server that numbers no deltas has told all messages by them
            return [] if self._spoken & {place, None} else list(map(_said, item.get("content") or []))
        name, field = _CALLS[kind]
        found = self._begun(place, item) if place not in self._calls else []
        if place not in self._given and item.get(field):
            self._given.add(place)
            found.append(_piece({"tool_calls": [{"index": self._calls[place], name: {field: item[field]}}]}))
        return found

    def _untold(self, response: Json) -> list[Piece]:
        """What the last event alone says. Of which kind anything came before came all of it, but for a call that was
        given nothing yet: not every server numbers its items as they stand here."""
        output, found = response.get("output"), list[Piece]()
        told = self._told | ({"message"} if self._spoken else set()) | (set(_CALLS) if self._calls else set())
        for place, item in enumerate(output if isinstance(output, list) else ()):
            kind = item.get("type")
            if kind not in told or (kind in _CALLS and place in self._calls):
                found += self._done(place, item)
        return found

    def _thought(self, item: Json) -> list[Piece]:
        words, details = thought_of(item, self._details)
        self._details += len(details)
        if self._thinks:  # what was told as it came is not told again with its signature
            words, details = "", [{**one, "text": ""} if "text" in one else one for one in details]
        self._thinks = False
        delta: Json = {"reasoning_content": words} if words else {}
        delta |= {"reasoning_details": details} if details else {}
        return [_piece(delta)] if delta else []


_TYPES = {"rate_limit_exceeded": "rate_limit_error", "server_is_overloaded": "overloaded_error"}


def annotated(annotation: Any) -> Any:
    """An annotation as chat writes it: what it says in a member named as its type."""
    kind = annotation.get("type") if isinstance(annotation, dict) else None
    if kind != "url_citation":
        return annotation
    return {"type": kind, kind: {name: value for name, value in annotation.items() if name != "type"}}


def thought_of(item: Json, before: int) -> tuple[str, list[Json]]:
    """(words, `reasoning_details`) of a whole thought, with so many details before it in the answer: details of one
    index are taken for pieces of one. What is encrypted goes back as it came."""
    parts = [*(item.get("content") or []), *(item.get("summary") or [])]
    words = "\n\n".join(str(part.get("text") or "") for part in parts)
    details = unseal(item["encrypted_content"], item.get("id") or "") if item.get("encrypted_content") else []
    return words, [{**detail, "index": place} for place, detail in enumerate(details, before)]


def _said(part: Json) -> Piece:
    """A whole part of a message."""
    if part.get("type") == "refusal":
        return _piece({"refusal": part["refusal"]})
    delta = {"content": part.get("text", "")}
    if part.get("annotations"):
        delta["annotations"] = [annotated(one) for one in part["annotations"]]
    return _piece(delta, logprobs=_logprobs(part))


def _logprobs(told: Json) -> Json | None:
    return {"content": told["logprobs"], "refusal": None} if told.get("logprobs") else None


def _usage(response: Json) -> list[Piece]:
    counts = response.get("usage")
    return [{"choices": [], "usage": chat_usage(counts)}] if isinstance(counts, dict) else []


def _piece(delta: Json, reason: str | None = None, logprobs: Json | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]}
