"""The wire, outwards: parts to a whole answer or to chunks, in the shapes of chat and completions. Torch-free."""

import uuid
from typing import Any

import orjson

from local_backend.part import CallPart, Part, Scored, Usage
from local_backend.tokenizer import Tokenizer
from local_backend.wire import Request

LEAST = -9999.0  # JSON knows no infinity; OpenAI says this
END = b"data: [DONE]\n\n"


class Answer:
    """Renders one call's answer. What is the same in every chunk is rendered once."""

    def __init__(self, request: Request, tokenizer: Tokenizer, ident: str, created: int) -> None:
        self._request, self._tokenizer, self._chat = request, tokenizer, request.chat
        kind = "chat.completion" if request.chat else "text_completion"
        self._head = {"id": ident, "object": kind, "created": created, "model": request.model}
        chunk = orjson.dumps({**self._head, "object": f"{kind}.chunk" if request.chat else kind})
        self._before = b"data: " + chunk[:-1] + b',"choices":['
        self._after = b'],"usage":null}\n\n' if request.include_usage else b"]}\n\n"
        told = b'"delta":' if request.chat else b'"text":'
        self._choices = [
            self._before + b'{"index":%d,' % index + told
            for index in range(request.choices * max(1, len(request.prompts)))
        ]
        self._plain = b',"logprobs":null,"finish_reason":null}' + self._after

    def whole(self, parts: list[Part], usage: Usage) -> bytes:
        """One Part per choice, complete."""
        choices = [self._choice(index, part) for index, part in enumerate(parts)]
        return orjson.dumps({**self._head, "choices": choices, "usage": usage.told()})

    def opening(self, index: int) -> bytes:
        """The first event of a choice; completions have none."""
        if not self._chat:
            return b""
        return self._choices[index] + b'{"role":"assistant","content":""}' + self._plain

    def piece(self, index: int, part: Part) -> bytes:
        """The events that tell what a part adds; the reason of the end has one of its own."""
        events = b""
        if part.content or part.scored or part.reasoning or part.calls:
            delta = orjson.dumps(self._delta(part) if self._chat else part.content)
            events = self._choices[index] + delta + (self._scored(part) if part.scored else self._plain)
        if part.finish:
            events += self._choices[index] + (b"{}" if self._chat else b'""')
            events += b',"logprobs":null,"finish_reason":"' + part.finish.encode() + b'"}' + self._after
        return events

    def end(self, usage: Usage) -> bytes:
        if not self._request.include_usage:
            return END
        return self._before + b'],"usage":' + orjson.dumps(usage.told()) + b"}\n\n" + END

    def _delta(self, part: Part) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if part.reasoning:
            delta["reasoning_content"] = part.reasoning
        if part.content or not (part.reasoning or part.calls):
            delta["content"] = part.content
        if part.calls:
            delta["tool_calls"] = [_call_delta(one) for one in part.calls]
        return delta

    def _scored(self, part: Part) -> bytes:
        told = orjson.dumps(self._logprobs(part.scored))
        return b',"logprobs":' + told + b',"finish_reason":null}' + self._after

    def _choice(self, index: int, part: Part) -> dict[str, Any]:
        asked = self._request.sampling.logprobs is not None
        choice: dict[str, Any] = {
            "index": index,
            "finish_reason": part.finish,
            "logprobs": self._logprobs(part.scored) if asked else None,
        }
        if not self._chat:
            return {**choice, "text": part.content}
        return {**choice, "message": _message(part)}

    def _logprobs(self, scored: list[Scored]) -> dict[str, Any]:
        if not self._chat:
            return self._text_logprobs(scored)
        content = [
            {
                **self._named(one.id, one.logprob),
                "top_logprobs": [self._named(token, value) for token, value in one.likeliest],
            }
            for one in scored
        ]
        return {"content": content, "refusal": None}

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._tokenizer.bytes_of(token)
        return {
            "token": raw.decode("utf-8", "replace"), "logprob": max(logprob, LEAST), "bytes": list(raw)
        }  # fmt: skip

    def _text_logprobs(self, scored: list[Scored]) -> dict[str, Any]:
        name = self._tokenizer.name_of
        return {
            "tokens": [name(one.id) for one in scored],
            "token_logprobs": [max(one.logprob, LEAST) for one in scored],
            "top_logprobs": [
                {name(token): max(value, LEAST) for token, value in one.likeliest} for one in scored
            ]
            if self._request.sampling.logprobs
            else None,
            "text_offset": [one.offset for one in scored],
        }


def _message(part: Part) -> dict[str, Any]:
    content = part.content or (None if part.calls else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if part.reasoning:
        message["reasoning_content"] = part.reasoning
    if part.calls:
        message["tool_calls"] = [
            {"id": _new_id(), "type": "function", "function": {"name": name, "arguments": arguments}}
            for _, name, arguments in part.calls
        ]
    return message


def _call_delta(call: CallPart) -> dict[str, Any]:
    """The first of a call has its id, type and name."""
    if not call.name:
        return {"index": call.call, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.call, "id": _new_id(), "type": "function", "function": function}


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
