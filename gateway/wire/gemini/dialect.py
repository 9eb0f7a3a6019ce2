"""Gemini between a client and a provider that both speak it: watched, never changed.

The model stands in the path, and so does whether an answer is streamed and how: as events, or (without
`alt=sse`) as one JSON array that comes in pieces. These are two dialects, which differ in their frames alone.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.array import ArraySplitter
from gateway.wire.base import Asked, Changes, Reading, Untouched, missing
from gateway.wire.envelope import render
from gateway.wire.fields import (
    READ,
    bound,
    loaded,
    note_usage,
    parse_object,
    refuse_spelled,
    refuse_twice,
)
from gateway.wire.gemini.back import CAP
from gateway.wire.gemini.native import native
from gateway.wire.gemini.reader import framed
from gateway.wire.gemini.weights import declared, estimate
from gateway.wire.gemini.words import camel, chat_usage, finish
from gateway.wire.splice import set_members
from gateway.wire.thoughts import holds_foreign
from gateway.wire.weights import beside
from gateway.wire.written import read

_SAID = re.compile(rb'"text"\s*:\s*"((?:[^"\\]|\\.)+)"')
_FINISH = re.compile(rb'"finishReason"\s*:\s*"?\w')
_MOST_OUTPUT = 2**31
_CONFIGS = ("generationConfig", "generation_config")
_BOUNDS = (*_CONFIGS, CAP, "max_output_tokens", "candidateCount", "candidate_count")
# Chat's among them: what is not Gemini's goes on under its own name where the call is translated.
_READ = READ | frozenset(
    {
        *_BOUNDS, "contents", "systemInstruction", "system_instruction", "tools", "model", "requests", "content",
        "cachedContent", "cached_content", "generateContentRequest", "generate_content_request",
    }
)  # fmt: skip
# What is said beside the contents.
_BESIDE = frozenset({"systemInstruction", "system_instruction", "tools"})
_SCHEMAS = frozenset({"responseJsonSchema", "responseSchema"})
_COUNTED = ("contents", "generateContentRequest", "generate_content_request")


class Generate(Untouched):
    """`generateContent`, and `streamGenerateContent` by events; as `gemini.array` the latter in an array."""

    def __init__(self, name: str = "gemini.generate", listed: str = "contents") -> None:
        self.name = name
        self._listed = listed
        self._is_array = name == "gemini.array"
        self.media = b"application/json" if self._is_array else Untouched.media

    def read(self, body: bytes) -> Reading:
        payload = parse_object(body)
        config = payload.get("generationConfig") or payload.get("generation_config")
        said = {**payload, **config} if isinstance(config, dict) else payload
        refuse_twice(body, said, _BOUNDS, _CONFIGS)
        refuse_spelled(said, _READ)
        if not isinstance(payload.get(self._listed), list):
            message = f"'{self._listed}' must be a list"
            raise BadRequest(message, code="missing_required_parameter", param=self._listed)
        return Reading(payload, "", False)

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        config = config_of(payload)
        cap, choices = bound(config, CAP, most=_MOST_OUTPUT), bound(config, "candidateCount", most=128)
        tokens, images = estimate(payload[self._listed])
        tokens += beside(payload, _BESIDE) + beside(config, _SCHEMAS)
        functions = declared(payload.get("tools"))
        return Shape(tokens, cap or 0, choices or 1, len(payload[self._listed]), functions, images)

    def write(self, call: Call, changes: Changes) -> bytes:
        """The model is in the path, which the provider writes; a bound of the output goes where it belongs."""
        assert isinstance(call.body, bytes)
        params = dict(changes.params)
        cap = params.pop(CAP, None)
        replace, add = missing(call.payload, params)
        if cap is not None and config_of(call.payload).get(CAP) is None:
            name = "generation_config" if "generation_config" in call.payload else "generationConfig"
            held = replace if name in call.payload else add
            config = call.payload.get(name) or {}
            held[name] = {CAP: cap, **{key: value for key, value in config.items() if value is not None}}
        if holds_foreign(self.name, call.body):
            replace |= native(call, changes)
        return set_members(call.body, replace, add) if replace or add else call.body

    def tap(self, asked: Asked) -> "GenerateTap":
        return GenerateTap(asked.usage, asked.choices, self._is_array)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """What was whole before it passed; a further element of an array, which then ends."""
        told = render(error, "gemini")
        return b",\r\n%b]" % told if self._is_array else b"data: %b\r\n\r\n" % told


class CountTokens(Generate):
    """Asks how long a call would be; nothing is generated. The call may stand in `generateContentRequest`."""

    def __init__(self) -> None:
        super().__init__("gemini.count_tokens")

    def read(self, body: bytes) -> Reading:
        payload = read_members(body)
        if not any(isinstance(payload.get(name), list | dict) for name in _COUNTED):
            message = "'contents' is missing"
            raise BadRequest(message, code="missing_required_parameter", param="contents")
        return Reading(payload, "", False)

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        return Shape(0, 0, 0)


class GenerateTap:
    """The last event tells the usage of all: only those that end a candidate are read, and the very last. The elements
    of an array are parsed one and all: nothing else tells whether they are valid. It ends behind an error, else with
    its bracket; one that comes too early is left to the error that says so."""

    __slots__ = ("_array", "_last", "_open", "_splitter", "_usage", "begun", "failed", "finish_reason",
                 "finished", "settled")  # fmt: skip

    def __init__(self, usage: Usage, choices: int, is_array: bool) -> None:
        self._usage, self._open = usage, choices
        self._array = ArraySplitter() if is_array else None
        self._splitter = self._array or sse.Splitter()
        self._last = b""  # an event whose usage nobody has looked at
        self.begun = self.settled = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        block = self._splitter.feed(chunk)
        if not block or (self._array and self.settled):
            return b""
        if not self._usage.reported:
            self._usage.completion += _tokens(block)
        block = self._checked(block)
        for event in self._events(block):
            counts = b'"usageMetadata"' in event
            if _FINISH.search(event) or b'"blockReason"' in event or (counts and self._open <= 0):
                self._note(event)
            elif counts:
                self._last = event
        self.begun = self.begun or b"{" in block
        return self._closed(block, ended=self._array.ended) if self._array else block

    def _closed(self, block: bytes, *, ended: bool) -> bytes:
        """Of an array: what has come, with the bracket where that is the end."""
        if self.failed:
            self.settled = True
            return block if ended else block + b"]"
        if ended and self._open > 0:
            return block[:-1]
        if ended:
            self.settled = self.finished = True
        return block

    def rest(self) -> bytes:
        """The last event of a stream, should its blank line be missing; only if it is a whole one. Raises BadStream."""
        rest, out = self._splitter.rest(), b""
        if self._array:
            out = rest if self.settled and not rest.strip() else b""
        elif loaded(sse.data(framed(rest))):
            out = self.feed(b"\n\n" if not rest.endswith(b"\n") else b"\n")
        if self._last:
            self._note(self._last)
        self.finished = self._open <= 0 and (not self._array or self.settled)
        return out

    def whole(self, body: bytes) -> None:
        self.begun = self.finished = True
        answer = loaded(body)
        self.failed = not answer or ("candidates" not in answer and bool(answer.get("error")))
        self._account(answer)
        if not self._usage.reported:
            self._usage.completion = _tokens(body)

    def _checked(self, block: bytes) -> bytes:
        """Events that are whole; notes whether one is an error. Raises BadStream."""
        if self._array:
            self.failed = any(one.get("error") for one in _elements(block)) or self.failed
            return block
        if not sse.is_usual(block):
            block = framed(block)
            sse.check(block)
        if b"error" in block and sse.tells_error(block):
            self.settled = self.failed = True
            block = sse.uncut(block)
        return block

    def _events(self, block: bytes) -> Iterable[bytes]:
        return [block] if self._array else sse.events(block)

    def _note(self, event: bytes) -> None:
        self._last = b""
        for answer in _elements(event) if self._array else [sse.parsed(sse.data(event))]:
            self._account(answer)
        if not self._array:
            self.settled = self._open <= 0 or self.failed
        if self._open <= 0 and self._usage.reported:  # no event says that it is the last
            self.finished = True

    def _account(self, answer: Mapping[str, Any]) -> None:
        candidates = answer.get("candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, dict) and (reason := finish(candidate.get("finishReason"))):
                self._open -= 1
                self.finish_reason = self.finish_reason or reason
        feedback = answer.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason") and not answer.get("candidates"):
            self._open, self.finish_reason = 0, "content_filter"
        counts = answer.get("usageMetadata")
        if isinstance(counts, dict) and "promptTokenCount" in counts:
            note_usage(self._usage, chat_usage(counts))


def read_members(body: bytes) -> dict[str, Any]:
    """The object of a body whose names are all written as they are read. Raises BadRequest."""
    payload = parse_object(body)
    refuse_spelled(payload, _READ)
    return payload


def config_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Raises BadRequest where two spellings of one name leave it open which of them is meant."""
    config = payload.get("generationConfig") or payload.get("generation_config")
    for held, one, other in (
        (payload, "generationConfig", "generation_config"),
        (config if isinstance(config, dict) else {}, CAP, "max_output_tokens"),
    ):
        if other in held and one in held:
            raise BadRequest(f"'{one}' stands twice in the body", code="duplicate_field", param=one)
    return camel(config)


def _tokens(block: bytes) -> int:
    return sum(-(-len(said) // 4) for said in _SAID.findall(block))


def _elements(block: bytes) -> list[dict[str, Any]]:
    """The elements that lie whole in a piece of an array, which may begin with its bracket or a comma. Raises
    BadStream."""
    try:
        found = read(b"[%b]" % block.strip(b" \t\r\n[,]"))
    except orjson.JSONDecodeError:
        raise sse.BadStream("an element is not valid JSON") from None
    return [one for one in found if isinstance(one, dict)]
