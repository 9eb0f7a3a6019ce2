"""Anthropic's Messages as Bedrock's InvokeModel takes them: every word is Anthropic's own, so that nothing of a call
or an answer is lost. The model and whether to stream stand in the path, the version and what the client's headers
ask for in the body; a stream comes in Amazon's frames, an event of Anthropic's in each.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call
from gateway.wire import sse
from gateway.wire.base import Asked, Changes
from gateway.wire.converse.back import ConverseBack
from gateway.wire.converse.reader import failed, parsed
from gateway.wire.crossing import refusal_across
from gateway.wire.eventstream import CONTENT_TYPE, Message
from gateway.wire.eventstream import Splitter as FrameSplitter
from gateway.wire.fields import is_count
from gateway.wire.messages.dialect import CountTokens, Messages, MessagesTap, native
from gateway.wire.messages.front import MessagesFront
from gateway.wire.messages.thinking import takes_effort
from gateway.wire.splice import reframed
from gateway.wire.thoughts import holds_foreign

VERSION = "bedrock-2023-05-31"  # the only one there is
_IN_PATH = frozenset({"model", "stream"})
# Flags of the header that Bedrock knows: any other is a 400, "invalid beta flag", and Claude Code sends several of
# Anthropic's own service. Source: the guide above, `anthropic_beta`.
_BETAS = frozenset(
    {"compact-2026-01-12", "computer-use-2025-01-24", "computer-use-2025-11-24", "context-1m-2025-08-07",
     "context-management-2025-06-27", "tool-search-tool-2025-10-19"}
)  # fmt: skip
# And those of what Claudes that take an effort do without being asked: they refuse these too
# (github.com/anthropics/claude-code/issues/49370 and 49490).
_BETAS_OF_OLD = frozenset(
    {"dev-full-thinking-2025-05-14", "effort-2025-11-24", "fine-grained-tool-streaming-2025-05-14",
     "interleaved-thinking-2025-05-14", "output-128k-2025-02-19", "token-efficient-tools-2025-02-19",
     "tool-examples-2025-10-29"}
)  # fmt: skip


class Invoke(Messages):
    """The way from a client of Messages."""

    name = "bedrock.messages"
    crosses = True
    media = CONTENT_TYPE

    def write(self, call: Call, changes: Changes) -> bytes:
        return _framed(call, _body(call, changes))

    def tap(self, asked: Asked) -> MessagesTap:
        return MessagesTap(asked.usage, Events(), asked.named)

    def refusal(self, status: int, body: bytes) -> bytes:
        return _refusal(status, body)


class InvokeCount(CountTokens):
    """How long a call to InvokeModel would be."""

    name = "bedrock.count_tokens"
    crosses = True

    def write(self, call: Call, changes: Changes) -> bytes:
        """Counted is a whole call, and one must say how much may be written: more than it may think."""
        body = _body(call, changes)
        thinking = body.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else 0
        whole = {"max_tokens": 1 + (budget if is_count(budget) else 0), **body}
        return orjson.dumps({"input": {"invokeModel": {"body": b64encode(_framed(call, whole)).decode()}}})

    def tap(self, asked: Asked) -> "CountTap":
        return CountTap(asked.usage)

    def refusal(self, status: int, body: bytes) -> bytes:
        return _refusal(status, body)


def _refusal(status: int, body: bytes) -> bytes:
    """All of Bedrock's errors are alike."""
    return refusal_across(MessagesFront(), ConverseBack(), status, body)


class CountTap(MessagesTap):
    __slots__ = ()

    def whole(self, body: bytes) -> bytes | None:
        self.begun = self.finished = True
        try:
            counted = orjson.loads(body)["inputTokens"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            counted = None
        self.failed = not is_count(counted)
        return None if self.failed else orjson.dumps({"input_tokens": counted})


class Events(sse.Splitter):
    """Reads frames and returns Anthropic's events, as Anthropic sends them."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        super().__init__()
        self._frames = FrameSplitter()

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        return b"".join(map(_event, self._frames.feed(chunk)))


def _body(call: Call, changes: Changes) -> dict[str, Any]:
    """What the client and the policies say, and those betas of the client's header that Bedrock knows; the others are
    told as left out."""
    asked = {**changes.params, **call.payload}
    kept = {name: value for name, value in asked.items() if name not in _IN_PATH}
    if isinstance(call.body, bytes) and holds_foreign(Invoke.name, call.body):
        kept["messages"] = native(call, changes)
    header = b",".join(value for name, value in call.forward if name == b"anthropic-beta").decode("latin-1")
    own = kept.get("anthropic_beta", [])
    if not header or not isinstance(own, list):
        return {"anthropic_version": VERSION, **kept}
    known = _BETAS if takes_effort(changes.model) else _BETAS | _BETAS_OF_OLD
    asked_for = [beta for beta in map(str.strip, header.split(",")) if beta and beta not in own]
    if betas := own + [beta for beta in asked_for if beta in known]:
        kept["anthropic_beta"] = betas
    if changes.left_out is not None:
        changes.left_out.extend(f"anthropic-beta: {beta}" for beta in asked_for if beta not in known)
    return {"anthropic_version": VERSION, **kept}


def _framed(call: Call, body: Mapping[str, Any]) -> bytes:
    """What is the client's own in it stays as the client wrote it."""
    assert isinstance(call.body, bytes)
    own = {name for name, value in call.payload.items() if name in body and body[name] is value}
    return reframed(call.body, {name: body[name] for name in body if name not in own}, own.__contains__)


def _event(message: Message) -> bytes:
    """The event in a frame. An exception becomes an error, with the status that it would have been."""
    told = parsed(message.payload)
    if message.exception:
        error = failed(message, told)
        return b"event: error\ndata: " + orjson.dumps({"type": "error", "error": error}) + b"\n\n"
    if message.headers.get(":event-type") != "chunk":
        return b""  # an event that came after this was written
    try:
        data = b64decode(told["bytes"], validate=True)
        kind = orjson.loads(data)["type"]
    except (binascii.Error, LookupError, TypeError, ValueError):
        raise sse.BadStream("a chunk holds no event of Anthropic's") from None
    if not isinstance(kind, str) or not kind.isidentifier():
        raise sse.BadStream("a chunk holds an event without a name")
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), b" ".join(data.splitlines()))
