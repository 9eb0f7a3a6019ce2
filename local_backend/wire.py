"""The wire, inwards: a body to a Request, or a 400 that names the field. Torch-free."""

import random
from dataclasses import dataclass, field
from typing import Any

from local_backend.asked import read_form, read_tools
from local_backend.constraint import Form
from local_backend.effort import EFFORTS
from local_backend.fields import CHAT, EMBEDDING, TEXT, Fields, Refused, ids, number, payload_of
from local_backend.tools import Tools
from local_backend.types import Sampling

MOST_CHOICES = 128  # of one call: what OpenAI takes
MOST_PROMPTS = 2048
MOST_ANSWERS = 2048  # of one call, all prompts together: each is begun before the first word of any goes out
MOST_ALTERNATIVES = 20


@dataclass(slots=True, frozen=True)
class Rendering:
    """How messages become a prompt. `arguments` are the template's own; `effort` of EFFORTS, empty where none is
    asked for."""

    add_generation_prompt: bool = True
    continue_final_message: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    effort: str = ""


@dataclass(slots=True, frozen=True)
class Request:
    """One call: `messages` for chat, `prompts` (texts or ids) for completions."""

    chat: bool
    model: str
    messages: list[dict[str, Any]]
    prompts: list[str | list[int]]
    rendering: Rendering
    sampling: Sampling
    choices: int
    stops: list[str]
    keep_stop: bool  # the stop string that was met is part of the answer
    stream: bool
    include_usage: bool
    echo: bool
    salt: str
    priority: int
    tools: Tools | None = None
    form: Form | None = None


@dataclass(slots=True, frozen=True)
class EmbeddingRequest:
    model: str
    inputs: list[str | list[int]]
    base64: bool
    dimensions: int | None


def read(body: bytes, *, chat: bool, default_tokens: int, temperature: float = 1.0) -> Request:
    """`default_tokens` and `temperature` are for a chat that says none. Raises Refused that names the field."""
    fields = Fields(payload_of(body), CHAT if chat else TEXT)
    stream = fields.flag("stream")
    prompts = [] if chat else texts_or_ids(fields, "prompt")
    return Request(
        chat=chat,
        model=fields.text("model"),
        messages=_messages(fields) if chat else [],
        prompts=prompts,
        rendering=_rendering(fields),
        sampling=_sampling(fields, default_tokens if chat else 16, temperature, chat),
        choices=_choices(fields, max(1, len(prompts))),
        stops=_stops(fields.payload.get("stop")),
        keep_stop=fields.flag("include_stop_str_in_output"),
        stream=stream,
        include_usage=_include_usage(fields, stream),
        echo=fields.flag("echo"),
        salt=fields.text("cache_salt"),
        priority=fields.whole("priority", -(2**31), 2**31) or 0,
        tools=read_tools(fields) if chat else None,
        form=read_form(fields),
    )


def read_embedding(body: bytes) -> EmbeddingRequest:
    """Raises Refused that names the field."""
    fields = Fields(payload_of(body), EMBEDDING)
    encoding = fields.text("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise _invalid("encoding_format", "must be 'float' or 'base64'")
    inputs = texts_or_ids(fields, "input")
    if not all(inputs):
        raise _invalid("input", "must not be empty")
    return EmbeddingRequest(
        fields.text("model"), inputs, encoding == "base64", fields.whole("dimensions", 1, 2**20)
    )


def read_tokens(body: bytes) -> list[int]:
    """What is to be a text again. Raises Refused that names the field."""
    fields = Fields(payload_of(body), frozenset({"model", "tokens"}))
    if fields.payload.get("tokens") is None:
        raise _invalid("tokens", "must be a list of token ids")
    return fields.ids("tokens")


def _choices(fields: Fields, prompts: int) -> int:
    found = fields.whole("n", 1, MOST_CHOICES) or 1
    if found * prompts > MOST_ANSWERS:
        told = (
            f"asks {prompts} prompts for {found} answers each; one call gets {MOST_ANSWERS} answers at most"
        )
        raise _invalid("n", told)
    return found


def _sampling(fields: Fields, default_tokens: int, temperature: float, chat: bool) -> Sampling:
    seed = fields.whole("seed", -(2**63), 2**63)
    cap = fields.whole("max_completion_tokens", 1, 2**31) if chat else None
    most = cap or fields.whole("max_tokens", 1, 2**31) or default_tokens
    least = fields.whole("min_tokens", 0, 2**31) or 0
    if least > most:
        raise _invalid("min_tokens", f"must not be above the {most} tokens that the answer may have")
    return Sampling(
        temperature=fields.number("temperature", 0, 2, temperature),
        top_p=fields.number("top_p", 0, 1, 1.0) or 1e-6,
        top_k=max(0, fields.whole("top_k", -1, 10**6) or 0),
        min_p=fields.number("min_p", 0, 1, 0.0),
        presence_penalty=fields.number("presence_penalty", -2, 2, 0.0),
        frequency_penalty=fields.number("frequency_penalty", -2, 2, 0.0),
        repetition_penalty=fields.number("repetition_penalty", 0.01, 100, 1.0),
        logit_bias=_bias(fields.table("logit_bias")),
        seed=random.getrandbits(48) if seed is None else seed,
        max_tokens=most,
        min_tokens=least,
        ignore_eos=fields.flag("ignore_eos"),
        stop_ids=frozenset(fields.ids("stop_token_ids")),
        logprobs=_alternatives(fields) if chat else _text_alternatives(fields),
    )


def _bias(found: dict[str, Any]) -> tuple[tuple[int, float], ...]:
    for token in found:
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise _invalid("logit_bias", f"must have token ids as names; {token[:40]!r} is none")
    return tuple(
        (int(token), number(value, f"logit_bias.{token}", -100, 100)) for token, value in found.items()
    )


def _alternatives(fields: Fields) -> int | None:
    asked = fields.flag("logprobs")
    most = fields.whole("top_logprobs", 0, MOST_ALTERNATIVES)
    if most and not asked:
        raise _invalid("top_logprobs", "needs 'logprobs' to be true")
    return (most or 0) if asked else None


def _text_alternatives(fields: Fields) -> int | None:
    if fields.payload.get("logprobs") is False:
        return None
    most = fields.whole("logprobs", 0, MOST_ALTERNATIVES)
    if most is not None and fields.payload.get("echo"):
        raise Refused(
            "'logprobs' of an echoed prompt are not supported by this engine; leave out 'echo'",
            param="logprobs",
            code="unsupported_parameter",
        )
    return most


def _include_usage(fields: Fields, stream: bool) -> bool:
    found = fields.payload.get("stream_options")
    if found is None:
        return False
    if not stream:
        raise _invalid("stream_options", "is for streams: set 'stream' to true")
    options = fields.table("stream_options")
    for name, value in options.items():
        # include_obfuscation pads events against eavesdroppers; false is what happens here anyway
        if name not in ("include_usage", "include_obfuscation") or not isinstance(value, bool):
            raise _invalid(f"stream_options.{name}", "is not an option of streams, or is not true or false")
    return options.get("include_usage") is True


def _rendering(fields: Fields) -> Rendering:
    arguments = fields.table("chat_template_kwargs")
    taken = {"messages", "tools", "add_generation_prompt", "continue_final_message"} & arguments.keys()
    if taken:
        name = min(taken)
        raise _invalid(f"chat_template_kwargs.{name}", f"is taken: '{name}' is a field of the call itself")
    continues = fields.flag("continue_final_message")
    adds = fields.flag("add_generation_prompt", default=not continues)
    if adds and continues:
        raise _invalid("continue_final_message", "excludes 'add_generation_prompt'")
    effort = fields.text("reasoning_effort")
    if effort and effort not in EFFORTS:
        raise _invalid("reasoning_effort", f"must be one of {', '.join(EFFORTS)}")
    return Rendering(adds, continues, arguments, effort)


def _messages(fields: Fields) -> list[dict[str, Any]]:
    messages = fields.payload.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", "must be a list of at least one message")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _message(message: Any, where: str) -> dict[str, Any]:
    """A message whose content is one text: parts of type text are joined."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _invalid(where, "must have a role")
    content = message.get("content")
    if calls := message.get("tool_calls"):
        _check_calls(calls, f"{where}.tool_calls")
        content = "" if content is None else content
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise _invalid(f"{where}.tool_call_id", "must name the call that this is the result of")
    if isinstance(content, list):
        content = "".join(_text_part(part, f"{where}.content") for part in content)
    if not isinstance(content, str):
        raise _invalid(f"{where}.content", "must be text")
    role = "system" if message["role"] == "developer" else message["role"]
    return {**message, "role": role, "content": content}


def _check_calls(calls: Any, where: str) -> None:
    if not isinstance(calls, list):
        raise _invalid(where, "must be a list of calls")
    for place, call in enumerate(calls):
        match call:
            case {"type": "function", "id": str(), "function": {"name": str(), "arguments": str()}}:
                continue
        raise _invalid(
            f"{where}[{place}]",
            "must have an id, the type 'function', and a function's name and arguments (text)",
        )


def _text_part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise _invalid(where, "may hold text alone")


def texts_or_ids(fields: Fields, name: str) -> list[str | list[int]]:
    """A text, several, the ids of one, or of several. Raises Refused."""
    value = fields.payload.get(name)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if len(value) <= MOST_PROMPTS and all(isinstance(one, str) for one in value):
            return list(value)
        if all(isinstance(one, int) for one in value):
            return [ids(value, name)]
        if len(value) <= MOST_PROMPTS and all(isinstance(one, list) for one in value):
            return [ids(one, name) for one in value]
    raise _invalid(name, f"must be a text, token ids, or a list of at most {MOST_PROMPTS} of either")


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if (
        not isinstance(stops, list)
        or len(stops) > 16
        or not all(isinstance(one, str) and one for one in stops)
    ):
        raise _invalid("stop", "must be a text or a list of at most 16 texts")
    return stops


def _invalid(name: str, what: str) -> Refused:
    return Refused(f"'{name}' {what}", param=name, code="invalid_value")
