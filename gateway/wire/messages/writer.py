"""Chat's answers as Anthropic's: whole, or as a stream with one block open at a time, in order."""

from collections.abc import Iterable
from typing import Any

import orjson

from gateway.wire.fields import given
from gateway.wire.messages.words import ERRORS, FORMAT, citation, messages_usage, stopped
from gateway.wire.part_queue import PartQueue
from gateway.wire.sides import Json, Piece
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import cuts, in_order, packed


class MessagesWriter:
    """Chat may go on with a call after words or another call began; here what is closed stays closed. So all that
    comes while a call is open is kept until its arguments are whole."""

    tells_failure = tells_media = False

    def __init__(self, ident: str = "msg", model: str = "") -> None:
        # The id is for providers that give none. The name is the one that was asked for: by another, Claude Code
        # would not send back what is signed.
        self._ident, self._model = ident, model
        self._begun = False
        self._index = -1
        self._open = ""  # text | thinking | tool_use
        self._call: Any = None  # the index, in chat, of the call that is open
        self._said: list[str] = []  # its arguments so far
        self._waiting: dict[Any, Json] = {}  # calls that are kept, by their index
        self._told: set[Any] = set()  # the indexes of calls that were opened
        self._queue = PartQueue(self._may)
        self._has_calls = self._refused = False
        self._reason: str | None = None
        self._sequence: str | None = None
        self._usage: Json | None = None
        self._cited: list[Json] = []

    def whole(self, completion: Json) -> Json:
        choice = completion["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        refused = message.get("refusal")
        ended_by = choice.get("stop_reason")
        stop = (
            "stop_sequence" if isinstance(ended_by, str) else stopped(reason, bool(message.get("tool_calls")))
        )
        return {
            "id": completion.get("id") or self._ident,
            "type": "message",
            "role": "assistant",
            "model": self._model or completion.get("model", ""),
            "content": list(_blocks(message)) + ([{"type": "text", "text": refused}] if refused else []),
            "stop_reason": "refusal" if refused else stop,
            "stop_sequence": ended_by if isinstance(ended_by, str) else None,
            "usage": messages_usage(completion.get("usage")),
        }

    def write(self, piece: Piece) -> bytes:
        if "error" in piece:
            error = piece["error"]
            kind = error.get("type") if error.get("type") in ERRORS.values() else "api_error"
            told = {"type": kind, "message": error.get("message", "")}
            return _event("error", {"type": "error", "error": told, "request_id": piece.get("request_id")})
        self._usage = piece.get("usage") or self._usage
        if not piece["choices"]:  # Azure's first chunk tells of the prompt alone, without an id or a model
            return b""
        out = [] if self._begun else [self._start(piece)]
        for choice in piece["choices"][:1]:
            out += self._choice(choice)
        return b"".join(out)

    def end(self) -> bytes:
        out = [] if self._begun else [self._start({})]
        out += self._queue.rest()
        out.append(self._close())
        stop = "stop_sequence" if self._sequence is not None else stopped(self._reason, self._has_calls)
        delta = {"stop_reason": "refusal" if self._refused else stop, "stop_sequence": self._sequence}
        out.append(
            _event(
                "message_delta",
                {"type": "message_delta", "delta": delta, "usage": messages_usage(self._usage)},
            )
        )
        return b"".join([*out, _event("message_stop", {"type": "message_stop"})])

    def _start(self, piece: Piece) -> bytes:
        self._begun = True
        message: Json = {
            "id": piece.get("id") or self._ident,
            "type": "message",
            "role": "assistant",
            "model": self._model or piece.get("model", ""),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": messages_usage(None),
        }
        return _event("message_start", {"type": "message_start", "message": message})

    def _choice(self, choice: Json) -> list[bytes]:
        delta, out = choice.get("delta") or {}, []
        details, thought = delta.get("reasoning_details") or [], delta.get("reasoning_content")
        if thought and not any(one.get("text") for one in details):  # encrypted ones do not hold it
            out += self._queue.tell(self._thought, thought)
        for detail in details:
            out += self._queue.tell(self._detail, detail)
        if text := delta.get("content") or delta.get("refusal"):
            out += self._queue.tell(self._text, {"type": "text_delta", "text": text})
        for cited in _citations(delta, self._cited):
            out += self._queue.tell(self._text, {"type": "citations_delta", "citation": cited})
        for call in delta.get("tool_calls") or []:
            out += self._fragment(call)
        self._refused = self._refused or bool(delta.get("refusal"))
        self._reason = choice.get("finish_reason") or self._reason
        if isinstance(choice.get("stop_reason"), str):
            self._sequence = choice["stop_reason"]
        return out

    def _may(self) -> bool:
        """Whether no call that is open may go on."""
        return self._call is None or _is_whole("".join(self._said))

    def _text(self, delta: Json) -> list[bytes]:
        return [*self._in("text", {"type": "text", "text": ""}), self._delta(delta)]

    def _detail(self, detail: Json) -> list[bytes]:
        if detail.get("type") == "reasoning.encrypted":
            return self._redacted(detail.get("data", "") if _is_ours(detail) else packed(detail))
        out = self._thought(detail["text"]) if detail.get("text") else []
        if (signature := detail.get("signature")) and not _is_ours(detail):
            out += self._redacted(packed(detail))
        elif signature:
            out += self._in("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out.append(self._delta({"type": "signature_delta", "signature": signature}))
            out.append(self._close())  # what is thought after a signature is another block
        return out

    def _redacted(self, data: str) -> list[bytes]:
        block = {"type": "redacted_thinking", "data": data}
        return [self._close(), self._open_block("redacted_thinking", block), self._close()]

    def _thought(self, text: str) -> list[bytes]:
        out = self._in("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        return [*out, self._delta({"type": "thinking_delta", "thinking": text})]

    def _fragment(self, call: Json) -> list[bytes]:
        """A piece of a call. Raises BadStream for one of a call that has been told already."""
        place, function = call["index"], call.get("function") or {}
        text = function.get("arguments") or ""
        if place == self._call:
            self._said.append(text)
            return [self._delta({"type": "input_json_delta", "partial_json": text})] if text else []
        if place in self._told:
            if text.strip():
                raise BadStream("a call goes on after its arguments were whole")
            return []
        if place not in self._waiting:
            self._waiting[place] = {"id": "", "name": "", "arguments": ""}
            self._queue.keep(self._open_call, place)
        kept = self._waiting[place]
        kept["id"] = kept["id"] or call.get("id") or ""
        kept["name"] = kept["name"] or function.get("name") or ""
        kept["arguments"] += text
        return self._queue.proceed()

    def _open_call(self, place: int) -> list[bytes]:
        call = self._waiting.pop(place)
        block = {"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}}
        out = [self._close(), self._open_block("tool_use", block)]
        self._call, self._said, self._has_calls = place, [call["arguments"]], True
        self._told.add(place)
        if call["arguments"]:
            out.append(self._delta({"type": "input_json_delta", "partial_json": call["arguments"]}))
        return out

    def _in(self, kind: str, block: Json) -> list[bytes]:
        return [] if self._open == kind else [self._close(), self._open_block(kind, block)]

    def _open_block(self, kind: str, block: Json) -> bytes:
        self._open, self._index = kind, self._index + 1
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        return _event("content_block_start", event)

    def _delta(self, delta: Json) -> bytes:
        event = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return _event("content_block_delta", event)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open, self._call = "", None
        return _event("content_block_stop", {"type": "content_block_stop", "index": self._index})


def _event(name: str, payload: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(payload))


def _is_whole(arguments: str) -> bool:
    """Of a call that was given nothing yet more may come: it is only known to be whole at the end."""
    try:
        return isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        return False


def _blocks(message: Json) -> Iterable[Json]:
    """What a chat message holds, in Anthropic's order: thoughts, words, calls, and words that came behind calls."""
    every = message.get("reasoning_details") or []
    details = [one for one in every if _is_ours(one)]
    for detail in details:
        if detail["type"] == "reasoning.encrypted":
            yield {"type": "redacted_thinking", "data": detail.get("data", "")}
        else:
            signature = detail.get("signature") or ""
            yield {"type": "thinking", "thinking": detail.get("text") or "", "signature": signature}
    if not details and message.get("reasoning_content"):
        yield {"type": "thinking", "thinking": message["reasoning_content"], "signature": ""}
    for detail in every:
        if not _is_ours(detail) and (detail.get("data") or detail.get("signature")):
            yield {"type": "redacted_thinking", "data": packed(detail)}
    cited, calls = _citations(message, []), message.get("tool_calls") or []
    for _, words, called in in_order((), message.get("content"), calls, cuts(calls)):
        if words:
            yield {"type": "text", "text": words} | ({"citations": cited} if cited else {})
            cited = []
        for call in called:
            function = call.get("function") or {}
            yield {"type": "tool_use", "id": call.get("id") or "", "name": function.get("name") or "",
                   "input": given(function.get("arguments"))}  # fmt: skip


def _citations(message: Json, told: list[Json]) -> list[Json]:
    """Anthropic's own as they came. A page that another provider cites is `told` once, however many places of the text
    it stands behind: where they are has no member here."""
    found = []
    for one in message.get("annotations") or []:
        made = citation(one)
        if made is not None and (made is one or made not in told):
            told.append(made)
            found.append(made)
    return found


def _is_ours(detail: Json) -> bool:
    """What another provider signed or encrypted is packed, so that it comes back as it was."""
    return bool(detail.get("format", FORMAT) == FORMAT)
