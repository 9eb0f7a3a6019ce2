"""Anthropic's Messages between a client and a provider that both speak it: watched, never changed."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked, Changes, Reading, Untouched
from gateway.wire.envelope import render
from gateway.wire.fields import WATCHED, bound, is_count, loaded, part, read_object
from gateway.wire.messages.words import finish, prompt_tokens
from gateway.wire.splice import set_members
from gateway.wire.thoughts import holds_foreign, unpacked
from gateway.wire.weights import beside, estimate
from gateway.wire.written import exactly

# A text, thought or argument fragment of a stream's delta, as it stands in its bytes.
_SAID = re.compile(rb'"(?:text|thinking|partial_json)"\s*:\s*"((?:[^"\\]|\\.)+)"')
_TELLING = re.compile(rb'"type"\s*:\s*"(?:message_start|message_delta|message_stop)"')
_START = re.compile(rb'"type"\s*:\s*"message_start"')
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_BESIDE = frozenset({"output_config", "output_format", "system", "tools"})  # what is said beside the messages
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class Messages(Untouched):
    """Bodies pass as they are; what is read of them is for limits and accounts."""

    name = "anthropic.messages"

    def read(self, body: bytes) -> Reading:
        reading = read_object(body, (*WATCHED, "max_tokens"))
        if not isinstance(reading.payload.get("messages"), list):
            message = "'messages' must be a list of messages"
            raise BadRequest(message, code="missing_required_parameter", param="messages")
        return reading

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        cap = bound(payload, "max_tokens", most=2**31) or 0
        tokens, images = estimate(payload["messages"])
        tokens += beside(payload, _BESIDE)
        tools = payload.get("tools")
        counted = len(tools) if isinstance(tools, list) else 0
        return Shape(tokens, cap, 1, len(payload["messages"]), counted, images)

    def write(self, call: Call, changes: Changes) -> bytes:
        body = super().write(call, changes)
        return (
            set_members(body, {"messages": native(call, changes)}, {})
            if holds_foreign(self.name, body)
            else body
        )

    def tap(self, asked: Asked) -> "MessagesTap":
        return MessagesTap(asked.usage, named=asked.named)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return b"event: error\ndata: " + render(error, "anthropic", request_id) + b"\n\n"


class CountTokens(Messages):
    """Asks how long a call would be; nothing is generated."""

    name = "anthropic.count_tokens"

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        return Shape(0, 0, 0)


class MessagesTap:
    """Usage stands in the first and the last event; only those few that tell something are parsed. An answer goes by
    the name that its model was asked for: Claude Code sends signed thoughts back only to whom the answer names."""

    __slots__ = ("_named", "_splitter", "_usage", "begun", "failed", "finish_reason", "finished", "settled")

    def __init__(self, usage: Usage, splitter: sse.Splitter | None = None, named: str = "") -> None:
        """`splitter` is for streams that come in a framing of their own."""
        self._usage, self._named = usage, named
        self._splitter = splitter or sse.Splitter()
        self.begun = self.settled = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        block = self._splitter.feed(chunk)
        if not block:
            return b""
        if not sse.is_usual(block):
            sse.check(block)
        self.begun = self.begun or sse.speaks(block)
        if not self._usage.reported:
            self._usage.completion += sum(-(-len(said) // 4) for said in _SAID.findall(block))
        if _TELLING.search(block):
            for event in sse.events(block):
                if _TELLING.search(event):
                    self._note(event)
            block = self._under_its_name(block) if self._named else block
        if block.find(b"error") >= 0 and sse.tells_error(block):
            self.settled = self.failed = True
            block = sse.uncut(block)
        return block

    def rest(self) -> bytes:
        """The last event of a stream, should its blank line be missing, and only if it is a whole one; should it be
        missing itself, a stream that has said why it stops gets it: SDKs wait for it."""
        rest, told = self._splitter.rest(), b""
        if loaded(sse.data(rest)):
            told = self.feed(b"\n\n" if not rest.endswith(b"\n") else b"\n")
        if self.settled and not (self.finished or self.failed):
            self.finished = True
            told += _STOP
        return told

    def whole(self, body: bytes) -> bytes | None:
        self.begun = self.finished = True
        answer = loaded(body)
        self.failed = not answer or answer.get("type") == "error"
        self.finish_reason = finish(answer.get("stop_reason")) or ""
        note_usage(self._usage, answer)
        if not self._usage.reported:
            self._usage.completion = sum(-(-len(said) // 4) for said in _SAID.findall(body))
        renamed = self._named and isinstance(answer.get("model"), str)
        return set_members(body, {"model": self._named}, {}) if renamed else None

    def _under_its_name(self, block: bytes) -> bytes:
        told = []
        for event in sse.events(block):
            if _START.search(event):
                event = _MODEL.sub(lambda _: b'"model":' + orjson.dumps(self._named), event, count=1)
            told.append(event)
        return b"".join(told)

    def _note(self, event: bytes) -> None:
        payload = sse.parsed(sse.data(event))
        kind = payload.get("type")
        if kind == "message_start":
            # Input is known from the start; what is said so far is not worth believing.
            if counts := part(payload.get("message"), "usage"):
                self._usage.prompt, self._usage.cached = prompt_tokens(counts)
        elif kind == "message_delta":
            note_usage(self._usage, payload)
            self.finish_reason = finish(part(payload, "delta").get("stop_reason")) or self.finish_reason
            self.settled = bool(self.finish_reason)
        elif kind == "message_stop":
            self.settled = self.finished = True


def native(call: Call, changes: Changes) -> list[Any]:
    """The messages without the thoughts that another provider signed, as in a conversation that had to change to it:
    Anthropic refuses what it cannot read."""
    assert isinstance(call.body, bytes)
    if changes.left_out is not None:
        changes.left_out.append("messages.thinking")
    kept = []
    for message in exactly(call.payload, call.body)["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and any(map(_is_foreign, content)):
            message = {**message, "content": [block for block in content if not _is_foreign(block)]}
            if not message["content"]:
                continue
        kept.append(message)
    return kept


def _is_foreign(block: Any) -> bool:
    packed = isinstance(block, dict) and block.get("type") == "redacted_thinking"
    return packed and unpacked(str(block.get("data"))) is not None


def note_usage(usage: Usage, answer: Mapping[str, Any]) -> None:
    """The `usage` of an answer or of the last event of a stream. Nonsense is not taken over."""
    counts = answer.get("usage")
    if not isinstance(counts, dict) or not is_count(counts.get("output_tokens")):
        return
    if is_count(counts.get("input_tokens")):  # many a stream names it in its first event alone
        usage.prompt, usage.cached = prompt_tokens(counts)
    usage.completion, usage.reported = counts["output_tokens"], True
    details = counts.get("output_tokens_details")
    thought = details.get("thinking_tokens") if isinstance(details, dict) else 0
    usage.reasoning = thought if is_count(thought) else 0
