"""OpenAI chat completions: the house language, spoken by most upstreams. Also the older completions."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked, Changes, Reading, Untouched, missing
from gateway.wire.envelope import render
from gateway.wire.fields import WATCHED, bound, note_usage, read_object
from gateway.wire.splice import set_members
from gateway.wire.weights import beside, estimate
from gateway.wire.written import read

CAPS = ("max_completion_tokens", "max_tokens")
_ONCE = (*WATCHED, *CAPS, "n", "best_of")
# What is said to the model beside messages and prompt; templates are vLLM's.
_BESIDE = frozenset(
    {
        "chat_template", "chat_template_kwargs", "documents", "functions", "prediction", "response_format", "suffix",
        "tools",
    }
)  # fmt: skip

# DashScope says in words that there is none yet.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"(?!null")(\w+)"')
_STRING = rb'"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
_TEXT = re.compile(rb'"(?:content|text|arguments|reasoning_content)' + _STRING)
# Thoughts that Groq, Ollama and others tell here alone; OpenRouter in its `reasoning_details` too, by pieces of `text`.
_THOUGHT = re.compile(rb'"reasoning' + _STRING)
_AGAIN = re.compile(rb'"(?:text|reasoning_content)' + _STRING)
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,')
_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')


class Chat(Untouched):
    """`name` and `listed` (the field that holds what is asked) tell chat from completions."""

    ending = b"data: [DONE]\n\n"

    def __init__(self, name: str, listed: str) -> None:
        self.name = name
        self._listed = listed

    def read(self, body: bytes) -> Reading:
        reading = read_object(body, _ONCE)
        if reading.payload.get(self._listed) is None:
            raise BadRequest(
                f"'{self._listed}' is missing", code="missing_required_parameter", param=self._listed
            )
        return reading

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        is_older = self._listed == "prompt"  # where nothing may be asked for but what is told of the prompt
        least = 0 if is_older else 1
        # Which of two bounds a provider keeps to is its own affair: the larger may come true.
        cap = max([bound(payload, name, 2**31, least) or 0 for name in CAPS if name in payload], default=0)
        choices = bound(payload, "n", most=128) or 1
        asked = payload[self._listed]
        tokens, images = estimate(asked)
        if is_older:
            cap = cap if payload.get("max_tokens") else 0  # the older API reads this name alone
            choices = max(choices, bound(payload, "best_of", 128, least) or 1) * _prompts(asked)
        tools = payload.get("tools")
        return Shape(
            tokens + beside(payload, _BESIDE),
            cap,
            choices,
            len(asked) if isinstance(asked, list) else 1,
            len(tools) if isinstance(tools, list) else 0,
            images,
        )

    def write(self, call: Call, changes: Changes) -> bytes:
        assert isinstance(call.body, bytes)
        replace, add = missing(call.payload, changes.params)
        if changes.model != call.model:
            replace["model"] = changes.model
        if changes.ask_usage:
            options = call.payload.get("stream_options")
            wanted = {**(options if isinstance(options, dict) else {}), "include_usage": True}
            (replace if "stream_options" in call.payload else add)["stream_options"] = wanted
        return set_members(call.body, replace, add) if replace or add else call.body

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        options = payload.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def tap(self, asked: Asked) -> "ChatTap":
        choices = asked.choices
        if self._listed == "prompt" and "best_of" in asked.payload:  # not all that are made are told
            choices = (bound(asked.payload, "n", most=128) or 1) * _prompts(asked.payload["prompt"])
        return ChatTap(asked.usage, asked.withhold_usage, choices)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return b"data: " + render(error) + b"\n\n"


class ChatTap:
    """Watches an answer and keeps its account. Whole events only reach the client, so that whatever ends a
    stream (an error event, a keep-alive comment) stands between events."""

    __slots__ = ("_open", "_splitter", "_usage", "_withhold", "begun", "failed", "finish_reason", "finished",
                 "settled")  # fmt: skip

    def __init__(
        self, usage: Usage, withhold: bool, choices: int, splitter: sse.Splitter | None = None
    ) -> None:
        """`splitter` is for streams that come in a framing of their own."""
        self._usage = usage
        self._withhold = withhold
        self._open = choices
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
        if block.find(b'"usage"') >= 0:
            block = self._account(block)
        if not self._usage.reported:
            self._usage.completion += _tokens(block)
        said = block
        if reasons := list(_FINISH.finditer(block)):
            for event in filter(_FINISH.search, sse.events(block)):
                sse.check(event)
            self._note_reasons(reasons)
            said = block[reasons[-1].end() :]
        if self.settled and any(_TEXT.findall(said)):
            self.settled = False  # it goes on: a pause is not its end
        if sse.is_done(block):
            self.settled = self.finished = True
        if block.find(b"error") >= 0 and sse.tells_error(block):
            self.settled = self.failed = True
            block = sse.uncut(block)
        return block

    def rest(self) -> bytes:
        """An event without its blank line: some servers end so. Complete it, if it is a whole one. Nor does every
        server say [DONE]: a stream that has said why it stops is complete at its end."""
        rest, told = self._splitter.rest(), b""
        if sse.is_whole(rest):
            told = self.feed(b"\n\n" if not rest.endswith(b"\n") else b"\n")
        self.finished = self.finished or self._open <= 0
        return told

    def whole(self, body: bytes) -> None:
        """Usage and finish reason of a whole answer, without parsing the text where that is possible."""
        self.begun = self.finished = True
        try:
            answer = read(body)
        except orjson.JSONDecodeError:
            self.failed = True
            return
        if not isinstance(answer, dict):
            self.failed = True
            return
        note_usage(self._usage, answer.get("usage"))
        choices = answer.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self.finish_reason = str(choices[0].get("finish_reason") or "")
            self.failed = self.finish_reason == "error"  # as in streams
        elif not isinstance(choices, list) or answer.get("error") or answer.get("object") == "error":
            self.failed = True  # whatever its status
        if not self._usage.reported:
            self._usage.completion = _tokens(body)

    def _note_reasons(self, reasons: list[re.Match[bytes]]) -> None:
        self.settled = 0 < self._open <= len(reasons)  # who says one with each word has not ended
        self._open -= len(reasons)
        self.finish_reason = reasons[0][1].decode()
        # OpenRouter tells of an error in a chunk like others ("openrouter.ai/docs, Errors, Streaming").
        if self.finish_reason == "error":
            self.settled = self.failed = True

    def _account(self, block: bytes) -> bytes:
        """Note the usage that came; leave out what only the gateway asked for."""
        if not _USAGE_OBJECT.search(block):
            # Asked for it, most providers say in each event that there is none yet.
            return _NULL_USAGE.sub(b"", block) if self._withhold else block
        kept = []
        for event in sse.events(block):
            if b'"usage"' in event and not self._usage_event(event):
                continue
            kept.append(_NULL_USAGE.sub(b"", event) if self._withhold else event)
        return b"".join(kept)

    def _usage_event(self, event: bytes) -> bool:
        """Note this event's usage; False if the event came for nothing else and is to be withheld. Raises BadStream."""
        try:
            payload = read(sse.data(event))
        except orjson.JSONDecodeError:
            raise sse.BadStream("an event is not valid JSON") from None
        counts = usage_of(payload)
        if counts is None:
            return True
        note_usage(self._usage, counts)
        return not (self._withhold and payload.get("choices") == [])


def usage_of(chunk: Any) -> dict[str, Any] | None:
    """The usage of a chunk, where its provider puts it: Groq in a member of its own."""
    if not isinstance(chunk, dict):
        return None
    if isinstance(counts := chunk.get("usage"), dict):
        return counts
    own = chunk.get("x_groq")
    return usage_of(own)


def _prompts(prompt: Any) -> int:
    """Of several texts, or lists of tokens, each is answered; a list of tokens is one."""
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


def _tokens(block: bytes) -> int:
    """An estimate of the tokens in an answer's text: a quarter of its bytes, at least one per piece."""
    tokens = _count(_TEXT, block)
    if b'"reasoning"' in block:
        tokens += max(0, _count(_THOUGHT, block) - _count(_AGAIN, block))
    return tokens


def _count(texts: re.Pattern[bytes], block: bytes) -> int:
    tokens = 0
    for text in texts.findall(block):
        if text:
            tokens += len(text) // 4 or 1
    return tokens
