"""Endpoints that pass through as they are: a bounded look for their usage."""

import json
import re
from collections.abc import Mapping
from typing import Any

from gateway.core.exchange import Call, Shape
from gateway.core.failure import GatewayError
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked, Reading, Untouched
from gateway.wire.envelope import render
from gateway.wire.fields import WATCHED, bound, loaded, note_usage, read_object
from gateway.wire.weights import beside, estimate

LOOK = 1 << 20  # bytes of a JSON answer that are kept to be read; of larger ones (images) the end is
TAIL = 4 << 10  # bytes
RUN_BOUND = "max_completion_tokens"  # of a run of a thread
# Where a model writes, by what follows the version, and what bounds it there.
_WRITES = (
    (re.compile(r"/responses(?:\?.*)?", re.DOTALL), "max_output_tokens"),
    (re.compile(r"/threads/(?:[^/?]+/)?runs(?:\?.*)?", re.DOTALL), RUN_BOUND),
)
# What is said beside an input or a prompt; beside an input a prompt is one that is stored, with its variables.
_BESIDE = frozenset({"additional_messages", "instructions", "messages", "text", "thread", "tools"})
_BESIDE_INPUT = _BESIDE | {"prompt"}
ONCE = (*WATCHED, *(name for _, name in _WRITES))  # what may stand only once in a body
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
_TERMINAL = re.compile(
    rb'"type"\s*:\s*"(?:response\.(?:completed|incomplete|failed)|speech\.audio\.done|transcript\.text\.done'
    rb'|(?P<image>image_(?:generation|edit)\.completed))"'
)
_OF_RESPONSES = re.compile(rb'"type"\s*:\s*"response\.')


def bound_of(call: Call) -> str:
    """What bounds the output of a call that passes as it is; "" where no model writes."""
    if call.method != "POST":
        return ""
    return next((name for path, name in _WRITES if path.fullmatch(call.path)), "")


class Raw(Untouched):
    """JSON calls of endpoints the gateway does not translate (responses, moderations, images ...)."""

    name = "openai.raw"

    def read(self, body: bytes) -> Reading:
        return read_object(body, ONCE)

    def shape(self, payload: Mapping[str, Any], size: int, cap_name: str = "max_output_tokens") -> Shape:
        """What Responses and images say of their size; the body's size where the rest is unknown."""
        cap = bound(payload, cap_name, most=2**31)
        asked = payload.get("input", payload.get("prompt"))
        if asked is None:
            tokens, images = size // 4, 0
        else:
            tokens, images = estimate(asked)
            tokens += beside(payload, _BESIDE_INPUT if "input" in payload else _BESIDE)
        tools = payload.get("tools")
        return Shape(tokens, cap or 0, 1, 1, len(tools) if isinstance(tools, list) else 0, images)

    def tap(self, asked: Asked) -> "RawTap":
        return RawTap(asked.usage)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Responses' own error event; its `sequence_number` is unknown here, as after any break."""
        return b"event: error\ndata: " + render(error)[:-1] + b',"type":"error"}\n\n'


class RawTap:
    """Lets every byte pass. Keeps a bounded copy of a JSON answer; reads the events of a stream for
    usage and the end."""

    __slots__ = (
        "_held",
        "_promises",
        "_splitter",
        "_tail",
        "_usage",
        "begun",
        "failed",
        "finish_reason",
        "finished",
        "settled",
    )

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._splitter = sse.Splitter()
        self._held: bytearray | None = bytearray()
        self._tail = b""
        self._promises = False  # a last event
        self.begun = self.settled = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        """One chunk of an event stream: whole events pass."""
        block = self._splitter.feed(chunk)
        if not block:
            return b""
        self.begun = self.begun or b"data:" in block
        self._promises = self._promises or bool(_OF_RESPONSES.search(block))
        done, last = sse.is_done(block), _TERMINAL.search(block)
        if done or last:
            self.finished = True
            # Of several images, each ends like the last.
            self.settled = self.settled or done or (last is not None and not last["image"])
            for event in sse.events(block):
                self._note_event_usage(event)
        if b"error" in block and sse.tells_error(block):
            self.settled = self.failed = True
        return block

    def rest(self) -> bytes:
        """Of the kinds of streams only Responses are known to say always that they are complete. None is that ends in
        the middle of an event."""
        rest = self._splitter.rest()
        if rest.strip() and not rest.startswith(b":") and not sse.is_whole(rest):
            return b""
        self.finished = self.finished or not self._promises
        self.failed = self.failed or sse.tells_error(rest)
        return rest

    def keep(self, chunk: bytes) -> None:
        """One piece of an answer that is no event stream; past the bound the copy is given up."""
        self.begun = True
        if self._held is not None:
            self._held += chunk
            if len(self._held) > LOOK:
                self._held = None
        if self._held is None:
            self._tail = (self._tail + chunk)[-TAIL:]

    def whole(self, body: bytes) -> None:
        """Read what was kept (or the whole answer) once it is complete."""
        self.begun = self.finished = True
        if self._held is None:
            note_usage(self._usage, _last_usage(self._tail))
            return
        held = body or bytes(self._held)
        if not held.lstrip(b" \t\r\n").startswith(b"{"):
            return
        note_usage(self._usage, loaded(held).get("usage"))

    def _note_event_usage(self, event: bytes) -> None:
        payload = loaded(sse.data(event))
        source = payload.get("response", payload)
        if isinstance(source, dict):
            note_usage(self._usage, source.get("usage"))


def _last_usage(tail: bytes) -> Any:
    """The last `usage` object of a JSON answer, out of its last bytes; None where there is none."""
    places = [match.end() for match in _USAGE.finditer(tail)]
    if not places:
        return None
    try:
        return json.JSONDecoder().raw_decode(tail[places[-1] :].decode("utf-8", "replace"))[0]
    except json.JSONDecodeError:
        return None
