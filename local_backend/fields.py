"""The members of a body: which there are, and how one is read. What is wrong is told by its name. Torch-free."""

from typing import Any

import orjson

# Every field of OpenAI's chat/completions and completions lies in exactly one of three lists; so do the names
# that vLLM added. A name in none of them is refused as unknown.
HONOURED = frozenset(
    {
        "stream", "stream_options", "n", "stop", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens",
        "min_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs",
        "ignore_eos", "stop_token_ids", "include_stop_str_in_output", "cache_salt", "priority", "model",
        "structured_outputs",
    }
)  # fmt: skip
CHAT = HONOURED | {
    "messages", "max_completion_tokens", "top_logprobs", "add_generation_prompt", "continue_final_message",
    "chat_template_kwargs", "reasoning_effort", "tools", "tool_choice", "parallel_tool_calls", "response_format",
}  # fmt: skip
TEXT = HONOURED | {"prompt", "echo"}
EMBEDDING = frozenset({"model", "input", "encoding_format", "dimensions"})
# They change nothing in the answer: bookkeeping, caching, billing, and wishes no program could check.
HARMLESS = frozenset(
    {
        "user", "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options", "safety_identifier", "verbosity", "moderation", "prediction",
    }
)  # fmt: skip
# They would change the answer and are not built. The values beside a name ask for nothing and are taken: many
# clients send them.
REFUSED: dict[str, tuple[Any, ...]] = {
    "functions": ([],), "function_call": ("none",), "audio": (), "modalities": (["text"],), "suffix": ("",),
    "best_of": (1,), "web_search_options": (),
}  # fmt: skip
REMEDY = {"functions": "tools", "function_call": "tool_choice", "best_of": "n"}


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


def payload_of(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises Refused: no JSON, invalid UTF-8, lone surrogates, NaN, too deep."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(payload, dict):
        raise Refused("the body must be a JSON object", code="invalid_json")
    return payload


class Fields:
    """Typed reading of a payload's members; null is as good as absent."""

    def __init__(self, payload: dict[str, Any], honoured: frozenset[str]) -> None:
        """Raises Refused for a member that would be ignored."""
        self.payload = payload
        for name, value in payload.items():
            if name not in honoured and name not in HARMLESS and value is not None:
                _refuse(name, value)

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self.payload.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Refused(
                f"'{name}' must be a whole number from {least} to {most}", param=name, code="invalid_value"
            )
        return value

    def number(self, name: str, least: float, most: float, default: float) -> float:
        value = self.payload.get(name)
        if value is None:
            return default
        return number(value, name, least, most)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.payload.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise Refused(f"'{name}' must be true or false", param=name, code="invalid_type")
        return value

    def text(self, name: str) -> str:
        value = self.payload.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Refused(f"'{name}' must be a text", param=name, code="invalid_type")
        return value

    def table(self, name: str) -> dict[str, Any]:
        value = self.payload.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Refused(f"'{name}' must be an object", param=name, code="invalid_type")
        return value

    def ids(self, name: str) -> list[int]:
        return ids(self.payload.get(name), name)


def number(value: Any, name: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Refused(f"'{name}' must be a number from {least} to {most}", param=name, code="invalid_value")
    return float(value)


def ids(value: Any, name: str) -> list[int]:
    """A list of token ids, not yet compared with the vocabulary; null gives an empty one."""
    found = [] if value is None else value
    if not isinstance(found, list) or not all(type(one) is int and 0 <= one < 2**31 for one in found):
        raise Refused(f"'{name}' must be a list of token ids", param=name, code="invalid_value")
    return found


def _refuse(name: str, value: Any) -> None:
    if name not in REFUSED:
        raise Refused(f"'{name}' is not a field of this endpoint", param=name, code="unknown_parameter")
    if value not in REFUSED[name]:
        remedy = f"; use '{REMEDY[name]}'" if name in REMEDY else ""
        raise Refused(
            f"'{name}' is not supported by this engine{remedy}", param=name, code="unsupported_parameter"
        )
