"""The wire: a body to a Request (or a 400 that names the field), answers and chunks to bytes. Torch-free."""

import random
from dataclasses import dataclass
from typing import Any

import orjson

from local_backend.types import Sampling

HARMLESS = frozenset(
    {
        "model", "user", "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier", "verbosity", "moderation", "parallel_tool_calls", "stream_options",
    }
)  # fmt: skip
HONOURED = frozenset(
    {
        "stream", "n", "stop", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "ignore_eos",
        "stop_token_ids", "cache_salt", "priority",
    }
)  # fmt: skip
_CHAT = HONOURED | {"messages", "max_completion_tokens", "add_generation_prompt", "chat_template_kwargs"}
_TEXT = HONOURED | {"prompt", "echo"}
# Values that ask for nothing: sent by many clients, and no reason to refuse a call.
_EMPTY: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, None), "presence_penalty": (0, None), "logit_bias": ({}, None),
    "logprobs": (False, None), "top_logprobs": (0, None), "tools": ([], None), "tool_choice": ("none", "auto", None),
    "functions": ([], None), "response_format": ({"type": "text"}, None), "best_of": (1, None), "suffix": ("", None),
    "modalities": (["text"], None), "reasoning_effort": (None,), "repetition_penalty": (1, None),
    "min_tokens": (0, None), "audio": (None,), "prediction": (None,), "function_call": ("none", None),
}  # fmt: skip


class Refused(Exception):
    """A call that is not served, with the status and OpenAI's words for it."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status

    def body(self) -> bytes:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return orjson.dumps(
            {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
        )


@dataclass(slots=True)
class Request:
    """One call: `messages` for chat, `prompts` (texts or ids) for completions."""

    chat: bool
    messages: list[dict[str, Any]]
    prompts: list[str | list[int]]
    model: str
    sampling: Sampling
    choices: int
    stops: list[str]
    stream: bool
    include_usage: bool
    echo: bool
    salt: str
    priority: int
    add_generation_prompt: bool
    template_arguments: dict[str, Any]


def read(body: bytes, *, chat: bool, default_tokens: int, temperature: float = 1.0) -> Request:
    """Raises Refused that names the field."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused("the body is not valid JSON", code="invalid_json") from None
    if not isinstance(payload, dict):
        raise Refused("the body must be a JSON object", code="invalid_json")
    _check_names(payload, _CHAT if chat else _TEXT)
    fields = _Fields(payload)
    cap = fields.whole("max_completion_tokens", 1, 2**31) if chat else None
    most = cap or fields.whole("max_tokens", 1, 2**31) or (default_tokens if chat else 16)
    options = payload.get("stream_options")
    seed = fields.whole("seed", -(2**63), 2**63)
    return Request(
        chat=chat,
        messages=_messages(payload) if chat else [],
        prompts=[] if chat else _prompts(payload),
        model=str(payload.get("model", "")),
        sampling=Sampling(
            temperature=fields.number("temperature", 0, 2, temperature),
            top_p=fields.number("top_p", 0, 1, 1.0) or 1e-6,
            top_k=max(0, fields.whole("top_k", -1, 10**6) or 0),
            min_p=fields.number("min_p", 0, 1, 0.0),
            seed=random.getrandbits(48) if seed is None else seed,
            max_tokens=most,
            ignore_eos=fields.flag("ignore_eos"),
            stop_ids=frozenset(_ids(payload.get("stop_token_ids"), "stop_token_ids")),
        ),
        choices=fields.whole("n", 1, 16) or 1,
        stops=_stops(payload.get("stop")),
        stream=fields.flag("stream"),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        echo=fields.flag("echo"),
        salt=str(payload.get("cache_salt") or ""),
        priority=fields.whole("priority", -(2**31), 2**31) or 0,
        add_generation_prompt=payload.get("add_generation_prompt", True) is not False,
        template_arguments=dict(payload.get("chat_template_kwargs") or {}),
    )


def _check_names(payload: dict[str, Any], honoured: frozenset[str]) -> None:
    for name, value in payload.items():
        if name in honoured or name in HARMLESS or value in _EMPTY.get(name, ()):
            continue
        if name in _EMPTY:
            raise Refused(
                f"'{name}' is not supported by this engine yet", param=name, code="unsupported_parameter"
            )
        raise Refused(f"'{name}' is not a field of this endpoint", param=name, code="unknown_parameter")


class _Fields:
    def __init__(self, payload: dict[str, Any]) -> None:
        self._payload = payload

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self._payload.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Refused(
                f"'{name}' must be a whole number from {least} to {most}", param=name, code="invalid_value"
            )
        return value

    def number(self, name: str, least: float, most: float, default: float) -> float:
        value = self._payload.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise Refused(
                f"'{name}' must be a number from {least} to {most}", param=name, code="invalid_value"
            )
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._payload.get(name)
        if value is not None and not isinstance(value, bool):
            raise Refused(f"'{name}' must be true or false", param=name, code="invalid_type")
        return bool(value)


def _messages(payload: dict[str, Any]) -> list[dict[str, Any]]:
    messages = payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(
            "'messages' must be a list of at least one message", param="messages", code="invalid_value"
        )
    return [_message(message, place) for place, message in enumerate(messages)]


def _message(message: Any, place: int) -> dict[str, Any]:
    """A message whose content is one text: parts of type text are joined."""
    where = f"messages[{place}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refused(f"'{where}' must have a role", param=where, code="invalid_value")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text_part(part, f"{where}.content") for part in content)
    if not isinstance(content, str):
        raise Refused(f"'{where}.content' must be text", param=f"{where}.content", code="invalid_value")
    role = "system" if message["role"] == "developer" else message["role"]
    return {**message, "role": role, "content": content}


def _text_part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise Refused(f"'{where}' may hold text alone", param=where, code="invalid_value")


def _prompts(payload: dict[str, Any]) -> list[str | list[int]]:
    prompt = payload.get("prompt")
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(isinstance(one, str) for one in prompt):
            return list(prompt)
        if all(isinstance(one, int) for one in prompt):
            return [list(prompt)]
        if all(isinstance(one, list) for one in prompt):
            return [_ids(one, "prompt") for one in prompt]
    raise Refused(
        "'prompt' must be a text, a list of texts, or token ids", param="prompt", code="invalid_value"
    )


def _ids(value: Any, name: str) -> list[int]:
    found = value or []
    if not isinstance(found, list) or not all(
        isinstance(one, int) and not isinstance(one, bool) for one in found
    ):
        raise Refused(f"'{name}' must be a list of token ids", param=name, code="invalid_value")
    return found


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if (
        not isinstance(stops, list)
        or len(stops) > 16
        or not all(isinstance(one, str) and one for one in stops)
    ):
        raise Refused(
            "'stop' must be a text or a list of at most 16 texts", param="stop", code="invalid_value"
        )
    return stops


@dataclass(slots=True)
class Usage:
    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def told(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


class Words:
    """Renders one call's answers: what is the same in every chunk is made once."""

    def __init__(self, request: Request, ident: str, created: int) -> None:
        self._chat, self._include_usage = request.chat, request.include_usage
        kind = "chat.completion" if request.chat else "text_completion"
        self._head = {"id": ident, "object": kind, "created": created, "model": request.model}
        self._chunk = {**self._head, "object": f"{kind}.chunk" if request.chat else kind}

    def whole(self, texts: list[tuple[str, str]], usage: Usage) -> bytes:
        """`texts` holds (text, finish reason) per choice."""
        choices = [self._choice(index, text, finish) for index, (text, finish) in enumerate(texts)]
        return orjson.dumps({**self._head, "choices": choices, "usage": usage.told()})

    def opening(self, index: int) -> bytes:
        return self._event(index, {"role": "assistant", "content": ""}, "", None) if self._chat else b""

    def piece(self, index: int, text: str) -> bytes:
        return self._event(index, {"content": text}, text, None)

    def closing(self, index: int, finish: str) -> bytes:
        return self._event(index, {}, "", finish)

    def end(self, usage: Usage) -> bytes:
        last = b""
        if self._include_usage:
            last = b"data: " + orjson.dumps({**self._chunk, "choices": [], "usage": usage.told()}) + b"\n\n"
        return last + b"data: [DONE]\n\n"

    def _event(self, index: int, delta: dict[str, str], text: str, finish: str | None) -> bytes:
        choice: dict[str, Any] = {"index": index, "finish_reason": finish, "logprobs": None}
        choice.update({"delta": delta} if self._chat else {"text": text})
        chunk: dict[str, Any] = {**self._chunk, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _choice(self, index: int, text: str, finish: str) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "finish_reason": finish, "logprobs": None}
        if self._chat:
            return {**choice, "message": {"role": "assistant", "content": text, "refusal": None}}
        return {**choice, "text": text}
