"""The few fields of a JSON call that the house reads, checked by hand; the provider judges the rest."""

from collections.abc import Collection, Container, Iterable, Mapping
from functools import cache
from typing import Any, TypeGuard

import orjson

from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Reading
from gateway.wire.splice import duplicated, is_crowded
from gateway.wire.written import as_written, read

# Of a body: to go through the values between them takes half a second, in which others wait.
MOST_MARKS = 500_000
WATCHED = ("model", "stream")
# What the house reads at the top of bodies, whichever format has it.
READ = frozenset(
    {
        "assistant_id", "audio", "background", "best_of", "container", "content_policy_fallbacks",
        "context_window_fallbacks", "conversation", "documents", "fallbacks", "file_id", "file_ids", "input",
        "input_file_id", "instructions", "max_completion_tokens", "max_output_tokens", "max_tokens", "messages",
        "model", "models", "n", "previous_response_id", "prompt", "query", "store", "stream", "stream_options",
        "system", "tools", "training_file", "validation_file", "vector_store_ids",
    }
)  # fmt: skip
# With what else most calls say: all is well where there is no other name.
_USUAL = READ | {
    "frequency_penalty", "logprobs", "metadata", "parallel_tool_calls", "presence_penalty", "reasoning",
    "reasoning_effort", "response_format", "seed", "stop", "temperature", "text", "thinking", "tool_choice", "top_k",
    "top_p", "user",
}  # fmt: skip
# Where a call goes and with whose credential: a LiteLLM behind a provider would obey it.
_OPERATORS = frozenset(
    {
        "api_base", "api_key", "base_url", "extra_headers", "model_list", "router_settings_override", "user_config",
    }
)  # fmt: skip
# What llama.cpp's server obeys in the place of these, which are checked (tools/server: "if n_predict is present, we
# overwrite the value specified earlier by max_tokens"; n is an alias of n_cmpl).
_INSTEAD = {"n_predict": "max_tokens", "n_cmpl": "n"}


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest that says what is wrong with it."""
    refuse_crowd(body)
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f" (line {error.lineno}, column {error.colno})" if body else ""
        raise BadRequest(f"the body is not valid JSON{where}", code="invalid_json") from None
    if not isinstance(payload, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    return payload


def refuse_crowd(body: bytes) -> None:
    """Raises BadRequest for JSON of so many values that other calls would wait for it."""
    if len(body) > MOST_MARKS and is_crowded(body, MOST_MARKS):
        message = f"the body holds more than {MOST_MARKS} names and values; send less at once"
        raise BadRequest(message, code="too_many_values")


def loaded(data: bytes) -> dict[str, Any]:
    """The JSON object that a provider wrote, empty for what is none."""
    try:
        value = read(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def part(value: Any, name: str) -> dict[str, Any]:
    """An object within what a provider wrote, empty for what is none: an answer is good without its counts."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def given(arguments: Any) -> dict[str, Any] | orjson.Fragment:
    """The arguments of a call as an object, to be written; a model that wrote none leaves what it wrote to be seen."""
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        value = None
    return as_written(arguments or "{}", value) if isinstance(value, dict) else {"arguments": arguments}


def read_object(body: bytes, once: tuple[str, ...] = WATCHED) -> Reading:
    """Model and stream of a JSON object that has each of `once` at most once. Raises BadRequest that says what is wrong
    with it."""
    payload = parse_object(body)
    refuse_twice(body, payload, once)
    refuse_names(payload)
    model = payload.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must name a model", code="missing_required_parameter", param="model")
    if len(model) > 256:
        raise BadRequest("'model' is longer than 256 characters", code="invalid_value", param="model")
    stream = payload.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false", code="invalid_type", param="stream")
    return Reading(payload, model, bool(stream))


def refuse_twice(
    body: bytes, said: Container[str], names: tuple[str, ...], inside: tuple[str, ...] = ()
) -> None:
    """Raises BadRequest where one of these names stands twice in a (valid) object, or in one of its members `inside`.
    `said` are those that stand there at all: no others are looked for."""
    if twice := duplicated(body, said, names, inside):
        raise BadRequest(f"'{twice}' stands twice in the body", code="duplicate_field", param=twice)


def refuse_names(said: Collection[str]) -> None:
    """Raises BadRequest for a name that is one of those READ but for its case: some servers (all that read JSON as Go
    does) take it for that one, and nobody here has checked its value. And for what only the operator says, or what a
    server would obey in the place of one that is read."""
    if _USUAL.issuperset(said):  # a tenth of a microsecond; the others take four
        return
    names = "".join(said)
    if not (names.isascii() and names.islower()):
        refuse_spelled(said, READ)
    if not _OPERATORS.isdisjoint(said):
        name = min(_OPERATORS.intersection(said))
        message = f"'{name}' is for the gateway's operator to set; leave it out of the call"
        raise BadRequest(message, code="unsupported_parameter", param=name)
    for name, read_here in _INSTEAD.items():
        if name in said:
            message = f"'{name}' is a bound that the gateway does not read; say what its API has for it ('{read_here}')"
            raise BadRequest(message, code="unsupported_parameter", param=name)


def refuse_spelled(said: Iterable[str], read: frozenset[str]) -> None:
    """The same of any names that are `read`, capitals among them. Raises BadRequest."""
    for name in said:
        if name not in read and (meant := _folded(read).get(name.casefold())):
            raise BadRequest(f"'{name}' must be written '{meant}'", code="invalid_field", param=name)


@cache
def _folded(names: frozenset[str]) -> dict[str, str]:
    return {name.casefold(): name for name in sorted(names)}


def bound(payload: Mapping[str, Any], name: str, most: int, least: int = 1) -> int | None:
    """A whole number, None where absent or null. Raises BadRequest."""
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(
            f"'{name}' must be a whole number from {least} to {most}", code="invalid_value", param=name
        )
    return value


def member(payload: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any]:
    """An object within another, empty where absent or null. Raises BadRequest for what is none; `where` is the
    place of `payload` in the body, with the dot that follows it."""
    value = payload.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unlike(f"{where}{name}", "an object")
    return value


def members(value: Any, where: str) -> list[Mapping[str, Any]]:
    """A list of objects, empty where absent or null. Raises BadRequest for what is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _unlike(where, "a list")
    for place, one in enumerate(value):
        if not isinstance(one, dict):
            raise _unlike(f"{where}[{place}]", "an object")
    return value


def text(payload: Mapping[str, Any], name: str, where: str = "") -> str:
    """A text, "" where absent or null. Raises BadRequest for what is none."""
    value = payload.get(name)
    if value is not None and not isinstance(value, str):
        raise _unlike(f"{where}{name}", "a text")
    return value or ""


def arguments(function: Mapping[str, Any], where: str) -> dict[str, Any] | orjson.Fragment:
    """What a function is called with, to be written; empty where absent. Raises BadRequest for what is no JSON object;
    `where` is the place of `function` in the body, with the dot that follows it."""
    written = text(function, "arguments", where)
    try:
        value = orjson.loads(written) if written else {}
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        field = f"{where}arguments"
        raise BadRequest(f"{field} is not a JSON object in a string", code="invalid_value", param=field)
    return as_written(written, value)


def _unlike(where: str, what: str) -> BadRequest:
    return BadRequest(f"'{where}' must be {what}", code="invalid_type", param=where)


def note_usage(usage: Usage, counts: Any) -> None:
    """OpenAI's usage object, in chat's words or those of Responses. Nonsense is not taken over."""
    if not isinstance(counts, dict):
        return
    # Voyage, which only reads, tells the total alone (voyage-embeddings-33c8b17a90).
    prompt = counts.get("prompt_tokens", counts.get("input_tokens", counts.get("total_tokens")))
    completion = counts.get("completion_tokens", counts.get("output_tokens")) or 0
    if not is_count(prompt) or not is_count(completion):
        return
    usage.prompt, usage.completion, usage.reported = prompt, completion, True
    usage.cached = cached_tokens(counts)
    details = counts.get("completion_tokens_details") or counts.get("output_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else 0
    usage.reasoning = thought if is_count(thought) else 0


def cached_tokens(counts: Mapping[str, Any]) -> int:
    """How much of the prompt came from a cache; 0 where the provider does not say."""
    details = counts.get("prompt_tokens_details") or counts.get("input_tokens_details")
    if isinstance(details, dict):
        value = details.get("cached_tokens")
    else:  # Mistral (mistral-chat_completions-fe6d16dd3b), Together (together-chat_completions-33a70ae1be)
        value = counts.get("num_cached_tokens", counts.get("cached_tokens"))
    return value if is_count(value) else 0


def is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**40  # a bool is no count
