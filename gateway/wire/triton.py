"""Triton's generate endpoint: one prompt, one text. Completions reach it, of the two engines that Triton serves models
with; chat does not, for it applies no model's template.

Sources: Triton's generate extension; the inputs and outputs of triton-inference-server's vllm_backend (src/model.py)
and tensorrtllm_backend (the ensemble's config). No recording of one is known.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import EVENTS, Asked, Changes
from gateway.wire.crossing import refusal_across
from gateway.wire.fields import note_usage
from gateway.wire.hub import ChatBack, ChatFront
from gateway.wire.refusals import Refusals
from gateway.wire.sides import WRONG_SHAPE, Json

_KEPT = frozenset({"model", "prompt", "stream", "stream_options"})
_LEFT_OUT = frozenset({"user", "store", "metadata", "service_tier"})  # only say how a call is kept or billed


class Engine(NamedTuple):
    """What Triton's models are run by. `fields` are those of a call that it takes, by the names that it has for them;
    `options` go in a text of JSON, else each is an input; `inputs` ask for more than the text; `echoes`: it can
    show the prompt, or not."""

    fields: Mapping[str, str]
    options: str = ""
    inputs: Mapping[str, Any] = {}
    echoes: bool = False


_SAMPLED = ("max_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty")
_VLLM = (*_SAMPLED, "stop", "seed", "min_p", "repetition_penalty", "min_tokens")
_COUNTS = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
ENGINES: Mapping[str, Engine] = {
    "triton.vllm": Engine(
        {name: name for name in _VLLM}, "sampling_parameters", dict.fromkeys(_COUNTS, True), True
    ),
    "triton.tensorrt-llm": Engine(
        {**{name: name for name in _SAMPLED}, "stop": "stop_words", "seed": "random_seed"}
    ),
}


class ToTriton:
    """The way of `openai.completions` there."""

    crosses = True
    media = EVENTS

    def __init__(self, name: str, engine: Engine) -> None:
        self.name, self._engine = name, engine

    def write(self, call: Call, changes: Changes) -> bytes:
        """Raises BadRequest."""
        payload, engine = call.payload, self._engine
        refusals = Refusals("Triton's generate", changes.dropped, changes.left_out)
        asked: Json = {
            **changes.params,
            **{name: value for name, value in payload.items() if value is not None},
        }
        refusals.leave_out_of(payload, _LEFT_OUT)
        sampling: Json = {}
        for name, value in asked.items():
            if field := engine.fields.get(name):
                sampling[field] = [value] if name == "stop" and isinstance(value, str) else value
            elif (
                name not in _KEPT
                and name not in _LEFT_OUT
                and not _says_nothing(name, value)
                and not (name == "echo" and engine.echoes)
            ):
                refusals.add(name)
        body: Json = {"text_input": _prompt(payload["prompt"]), "stream": call.stream, **engine.inputs}
        if engine.echoes:
            body["exclude_input_in_output"] = not asked.get("echo")
        more = {engine.options: orjson.dumps(sampling).decode()} if engine.options else sampling
        return orjson.dumps(body | (more if sampling else {}))

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        return True

    def tap(self, asked: Asked) -> "TritonTap":
        return TritonTap(asked)

    def refusal(self, status: int, body: bytes) -> bytes:
        return refusal_across(ChatFront(), ChatBack(), status, body)


def _says_nothing(name: str, value: Any) -> bool:
    """What asks for no more than there is without it."""
    return value is False or value == [] or value == {} or (name in ("n", "best_of") and value == 1)


def _prompt(prompt: Any) -> str:
    """Raises BadRequest: nothing would be left of a call without it."""
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or len(texts) != 1 or not isinstance(texts[0], str):
        message = "'prompt' must be one text: Triton's generate takes no tokens, and one prompt at a time"
        raise BadRequest(message, code="unsupported_parameter", param="prompt")
    return texts[0]


class TritonTap:
    """Tells Triton's answer as a completion. A stream ends where its framing does; of some engines it says before why
    the text ends."""

    def __init__(self, asked: Asked) -> None:
        self._usage = asked.usage
        options = asked.payload.get("stream_options")
        self._tells_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._head = {
            "id": f"cmpl-{asked.ident}", "object": "text_completion", "created": asked.moment,
            "model": asked.payload.get("model"),
        }  # fmt: skip
        self._splitter = sse.Splitter()
        self._counts: Json = {}
        self.begun = self.settled = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        return b"".join(self._told(self._splitter.feed(chunk)))

    def rest(self) -> bytes:
        """Raises BadStream."""
        told = list(self._told(self._splitter.rest()))
        if self.begun and not self.failed:
            self.finished = True
            self.finish_reason = self.finish_reason or "stop"
            told.append(self._event([_choice("", self.finish_reason)]))
            if self._tells_usage and self._counts:
                told.append(self._event([], usage=self._counts))
            told.append(b"data: [DONE]\n\n")
        return b"".join(told)

    def whole(self, body: bytes) -> bytes | None:
        self.begun = self.finished = True
        try:
            answer = orjson.loads(body)
            text = self._text(answer)
        except WRONG_SHAPE:
            self.failed = True
            return None
        self.finish_reason = self.finish_reason or "stop"
        usage = {"usage": self._counts} if self._counts else {}
        return orjson.dumps({**self._head, "choices": [_choice(text, self.finish_reason)], **usage})

    def _told(self, block: bytes) -> Iterator[bytes]:
        for event in sse.events(block):
            if self.failed or not (data := sse.data(event).strip()):
                continue  # behind an error its client has been told the end
            answer = sse.parsed(data)
            self.begun = True
            if "error" in answer:
                self.settled = self.failed = True
                error = {"message": str(answer["error"]), "type": "api_error", "param": None, "code": None}
                yield b"data: " + orjson.dumps({"error": error}) + b"\n\n"
            elif text := self._text(answer):
                yield self._event([_choice(text)])

    def _text(self, answer: Json) -> str:
        """Notes what stands beside it. Raises BadStream."""
        text = answer.get("text_output")
        if not isinstance(text, str):
            raise sse.BadStream("an answer without text_output")
        reason = answer.get("finish_reason")
        if isinstance(reason, str) and reason not in ("", "None"):
            self.finish_reason = reason
        self._count(answer)
        return text

    def _count(self, answer: Json) -> None:
        """The prompt's tokens are told with each piece, those of the text piece by piece."""
        usage: Usage = self._usage
        prompt, new = answer.get("num_input_tokens"), answer.get("num_output_tokens")
        if not isinstance(prompt, int) or not isinstance(new, int):
            if not self._counts:
                usage.completion += -(-len(answer["text_output"]) // 4)
            return
        completion = self._counts.get("completion_tokens", 0) + new
        self._counts = {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        }  # fmt: skip
        note_usage(usage, self._counts)

    def _event(self, choices: list[Json], **more: Any) -> bytes:
        return b"data: " + orjson.dumps({**self._head, "choices": choices, **more}) + b"\n\n"


def _choice(text: str, reason: str | None = None) -> Json:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
