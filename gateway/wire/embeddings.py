"""OpenAI embeddings: the answer is large and passes untouched; only its usage is read."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.core.usage import Usage
from gateway.wire.base import Changes, Reading, Untouched
from gateway.wire.envelope import render
from gateway.wire.fields import estimate, note_usage, read_object
from gateway.wire.splice import set_members

MOST_INPUTS = 2048
# The usage object has no object inside it in any embeddings answer on record.
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*\})')


class Embeddings(Untouched):
    name = "openai.embeddings"

    def read(self, body: bytes) -> Reading:
        reading = read_object(body)
        asked = reading.payload.get("input")
        if asked is None:
            raise BadRequest("'input' is missing", code="missing_required_parameter", param="input")
        if isinstance(asked, list) and len(asked) > MOST_INPUTS and not isinstance(asked[0], int):
            raise BadRequest(
                f"'input' holds more than {MOST_INPUTS} texts", code="invalid_value", param="input"
            )
        return reading

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        tokens, _ = estimate(payload["input"])
        # An embedding produces no tokens: nothing is reserved for an output.
        return Shape(tokens, 0, 0)

    def write(self, call: Call, changes: Changes) -> bytes:
        assert isinstance(call.body, bytes)
        add = {name: value for name, value in changes.params.items() if name not in call.payload}
        replace = {} if changes.model == call.model else {"model": changes.model}
        return set_members(call.body, replace, add) if replace or add else call.body

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        return True

    def tap(
        self,
        asked: Mapping[str, Any],
        usage: Usage,
        *,
        withhold_usage: bool,
        choices: int = 1,
        moment: int = 0,
        ident: str = "",
    ) -> "EmbeddingsTap":
        return EmbeddingsTap(usage)

    def error_event(self, error: GatewayError) -> bytes:
        return b"data: " + render(error) + b"\n\n"


class EmbeddingsTap:
    """Reads the usage without parsing megabytes of numbers."""

    __slots__ = ("_usage", "begun", "failed", "finish_reason", "finished")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self.begun = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        self.begun = self.finished = True
        return chunk

    def rest(self) -> bytes:
        return b""

    def whole(self, body: bytes) -> None:
        self.begun = self.finished = True
        first, last = body[:1024], body[-1024:]
        if not (first.lstrip().startswith(b"{") and last.rstrip().endswith(b"}")):
            self.failed = True
            return
        # Usage stands at either end of the object; both ends are searched, never the middle.
        if match := _USAGE.search(last) or _USAGE.search(first):
            try:
                note_usage(self._usage, orjson.loads(match.group(1)))
            except orjson.JSONDecodeError:
                self.failed = True
