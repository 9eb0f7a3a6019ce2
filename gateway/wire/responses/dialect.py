"""OpenAI's Responses between a client and a provider that both speak it: watched, never changed."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import GatewayError
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked, Changes, Reading, Untouched
from gateway.wire.fields import WATCHED, bound, loaded, note_usage, read_object
from gateway.wire.responses.events import as_error, failing, going_on
from gateway.wire.responses.words import SEALED, answer_of, finish
from gateway.wire.splice import set_members
from gateway.wire.thoughts import holds_foreign
from gateway.wire.weights import beside, estimate
from gateway.wire.written import exactly

_LAST = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed)"')
_DONE = re.compile(rb'"type"\s*:\s*"response\.output_item\.done"')
# A fragment of text, thought or arguments, as it stands in an event's bytes.
_SAID = re.compile(rb'"delta"\s*:\s*"((?:[^"\\]|\\.)+)"')

_BESIDE = frozenset({"instructions", "prompt", "text", "tools"})  # what is said beside the input


class Responses(Untouched):
    """Bodies pass as they are; what is read of them is for limits and accounts."""

    name = "openai.responses"

    def read(self, body: bytes) -> Reading:
        return read_object(body, (*WATCHED, "max_output_tokens"))

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        cap = bound(payload, "max_output_tokens", most=2**31) or 0
        asked = payload.get("input")
        tokens, images = estimate(asked) if asked is not None else (0, 0)
        tokens += beside(payload, _BESIDE)
        tools = payload.get("tools")
        counted = len(tools) if isinstance(tools, list) else 0
        items = len(asked) if isinstance(asked, list) else 0
        return Shape(tokens, cap, 1, items or 1, counted, images)

    def write(self, call: Call, changes: Changes) -> bytes:
        """Without the thoughts that a model of another API had, as in a conversation that changed to this one: OpenAI
        could not read them."""
        body = super().write(call, changes)
        if not holds_foreign(self.name, body) or not isinstance(call.payload.get("input"), list):
            return body
        assert isinstance(call.body, bytes)
        items = exactly(call.payload, call.body)["input"]
        kept = [item for item in items if not _is_foreign(item)]
        if len(kept) == len(items):
            return body
        if changes.left_out is not None:
            changes.left_out.append("input.reasoning")
        return set_members(body, {"input": kept}, {})

    def tap(self, asked: Asked) -> "ResponsesTap":
        return ResponsesTap(asked.usage, goes_on=asked.payload.get("background") is True)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The format's own event, and the error as an object, which SDKs look for: whoever follows a response may be
        left by the gateway, and the response goes on. How many events went before is not known here."""
        told = as_error(error)
        return b"event: error\ndata: " + orjson.dumps({**told, "type": "error", "error": told}) + b"\n\n"


def _is_foreign(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    return str(item.get("encrypted_content")).startswith(SEALED) or answer_of(str(item.get("id"))) != ""


class ResponsesTap:
    """Only the last event tells the account: it alone is parsed. What a response writes that `goes_on` without its
    client is not guessed: it tells that when it is read. The first and the last block are kept for a stream that
    breaks."""

    __slots__ = (
        "_first", "_guesses", "_last", "_splitter", "_usage", "begun", "failed", "finish_reason", "finished", "settled"
    )  # fmt: skip

    def __init__(self, usage: Usage, *, goes_on: bool = False) -> None:
        self._usage, self._guesses = usage, not goes_on
        self._splitter = sse.Splitter()
        self._first = self._last = b""
        self.begun = self.settled = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        block = self._splitter.feed(chunk)
        if not block:
            return b""
        if not sse.is_usual(block):
            sse.check(block)
        before, self._last = self.begun, block
        if not before and sse.speaks(block):
            self.begun, self._first = True, block
        if self._guesses and not self._usage.reported:
            self._usage.completion += sum(-(-len(said) // 4) for said in _SAID.findall(block))
        if _LAST.search(block):
            for event in sse.events(block):
                if _LAST.search(event):
                    self._note(sse.parsed(sse.data(event)).get("response"))
            self.settled = self.finished = True
        # A response that fails is told as the provider tells it, unless nothing else has been told yet.
        if block.find(b"error") >= 0 and sse.tells_error(block):
            self.settled = self.failed = True
            block = sse.uncut(block)
        elif self.finish_reason == "failed":
            self.failed = before
        return block

    def rest(self) -> bytes:
        """The last event of a stream, should its blank line be missing; only if it is a whole one."""
        rest = self._splitter.rest()
        if not sse.is_whole(rest):
            return b""
        return self.feed(b"\n\n" if not rest.endswith(b"\n") else b"\n")

    def broken(self, error: GatewayError) -> bytes:
        """What ends a stream that broke, in the order of what was told before."""
        return failing(as_error(error), *going_on(self._first, self._last))

    def whole(self, body: bytes) -> None:
        self.begun = self.finished = True
        answer = loaded(body)
        self.failed = not answer or ("output" not in answer and bool(answer.get("error")))
        self._note(answer)
        if self._guesses and not self._usage.reported:
            self._usage.completion = len(body) // 4

    def _note(self, response: Any) -> None:
        if isinstance(response, dict):
            note_usage(self._usage, response.get("usage"))
            self.finish_reason = finish(response)


def last_response(block: bytes) -> dict[str, Any] | None:
    """The response that the last event of a stream carries; None where the block has no such event."""
    for event in sse.events(block) if _LAST.search(block) else ():
        if _LAST.search(event):
            response = loaded(sse.data(event)).get("response")
            return response if isinstance(response, dict) else None
    return None


def items_told(block: bytes) -> list[dict[str, Any]]:
    """The items that have ended in a block of a stream."""
    told = [loaded(sse.data(event)) for event in sse.events(block) if _DONE.search(event)]
    return [one["item"] for one in told if isinstance(one.get("item"), dict)]


def completed(response: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, Any]:
    """A response with its items: the last event of some servers holds none, though they `told` them before
    (vllm-project/vllm#30223)."""
    return response if response.get("output") else {**response, "output": told}


def unkept(block: bytes) -> bytes:
    """Events that end with a response's last, which says now that it is not stored."""
    *before, last = sse.events(block)
    event = loaded(sse.data(last))
    event["response"]["store"] = False
    return b"".join([*before, b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))])
