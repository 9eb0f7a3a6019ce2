"""A call in Responses as a chat call."""

from collections.abc import Mapping
from typing import Any

from gateway.core.failure import BadRequest
from gateway.wire.hub import ChatFront
from gateway.wire.refusals import Refusals
from gateway.wire.responses.items import messages
from gateway.wire.responses.tools import set_tools
from gateway.wire.responses.writer import ResponsesWriter
from gateway.wire.sides import Json

# Fields with a meaning of their own here, and those that the gateway itself answers for; all others go on to the
# provider under their own names.
_TURNED = frozenset(
    {"input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
     "max_output_tokens", "include", "top_logprobs", "user", "safety_identifier", "model", "stream", "service_tier",
     "store", "previous_response_id", "background", "metadata", "stream_options"}
)  # fmt: skip
# But for what only says how a call is to be billed or cached, and what changes an answer only where a context is too
# long for its model, which the provider's refusal then says.
_LEFT_OUT = frozenset(
    {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "max_tool_calls", "truncation",
     "context_management", "client_metadata"}
)  # fmt: skip
# Several answers are no word of Responses: `n` and `best_of`.
_NOT_CARRIED = ("conversation", "moderation", "prompt", "n", "best_of")
# What chat's fields are called here.
_FIELDS = {
    "max_completion_tokens": "max_output_tokens", "response_format": "text.format", "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort", "logprobs": "include",
    "image_url.detail": "input.detail", "file.filename": "input.filename",
    "messages.reasoning_content": "input.reasoning", "messages.reasoning_details": "input.reasoning",
}  # fmt: skip
# Further things to show of an answer: some are always there, others tell of tools that cannot run here.
_SHOWN = frozenset(
    {"message.input_image.image_url", "reasoning.encrypted_content", "message.output_text.logprobs"}
)
_NOT_SHOWN = frozenset(
    {"file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
     "computer_call_output.output.image_url", "code_interpreter_call.outputs"}
)  # fmt: skip
_HELD = {
    "reasoning": frozenset({"effort", "mode"}),
    "text": frozenset({"verbosity", "format"}),
    "tool_choice": frozenset({"type", "name", "namespace", "mode", "tools"}),
}
_HELD_BY_TEXT = {"format": frozenset({"type", "name", "description", "schema", "strict"})}


class ResponsesFront:
    def to_chat(self, payload: Mapping[str, Any], refusals: Refusals) -> Json:
        refusals.fields |= _FIELDS
        for name in _NOT_CARRIED:
            if payload.get(name) and payload[name] != 1:  # one answer is what there is
                refusals.add(name)
        chat: Json = {
            name: value for name, value in payload.items() if name not in _TURNED and name not in _LEFT_OUT
        }
        refusals.leave_out_of(payload, _LEFT_OUT)
        refusals.leave_out_within(payload, _HELD)
        for name in _NOT_CARRIED:
            chat.pop(name, None)
        chat["messages"] = _system(payload) + messages(payload.get("input"), refusals)
        if not chat["messages"]:
            raise BadRequest("'input' is missing", code="missing_required_parameter", param="input")
        if payload.get("max_output_tokens") is not None:
            chat["max_completion_tokens"] = payload["max_output_tokens"]
        _set_user(chat, payload, refusals)
        if payload.get("service_tier") not in (None, "auto"):
            chat["service_tier"] = payload["service_tier"]
        _set_logprobs(chat, payload, refusals)
        _set_reasoning(chat, payload, refusals)
        _set_text(chat, payload, refusals)
        set_tools(chat, payload, refusals)
        return chat

    def place(self, where: str) -> str:
        return where

    def writer(self, asked: Mapping[str, Any], moment: int, ident: str = "") -> ResponsesWriter:
        return ResponsesWriter(asked, moment, ident)

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        return ChatFront().refusal(status, message, error)


def _system(payload: Mapping[str, Any]) -> list[Json]:
    said = payload.get("instructions")
    if said is not None and not isinstance(said, str):
        raise BadRequest("'instructions' must be a text", code="invalid_type", param="instructions")
    return [{"role": "system", "content": said}] if said else []


def _set_user(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    user, safety = payload.get("user"), payload.get("safety_identifier")
    if safety:
        refusals.fields["user"] = "safety_identifier"
        if user not in (None, safety):
            refusals.leave_out("user")
    if user or safety:
        chat["user"] = safety or user


def _set_logprobs(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    included = payload.get("include") or []
    for place, name in enumerate(included if isinstance(included, list) else [included]):
        if isinstance(name, str) and name in _NOT_SHOWN:
            refusals.leave_out("include")
        elif not isinstance(name, str) or name not in _SHOWN:
            refusals.add(f"include[{place}]")
    if payload.get("top_logprobs"):
        refusals.fields["logprobs"] = "top_logprobs"
        chat["top_logprobs"] = payload["top_logprobs"]
    if payload.get("top_logprobs") or "message.output_text.logprobs" in included:
        chat["logprobs"] = True


def _set_reasoning(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    """The effort is carried. Thoughts are shown as a provider shows them, however much was asked."""
    asked = _object(payload, "reasoning")
    if asked.get("effort") is not None:
        chat["reasoning_effort"] = asked["effort"]
    if asked.get("mode") not in (None, "standard"):
        refusals.add("reasoning.mode")


def _set_text(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    asked = _object(payload, "text")
    refusals.leave_out_within(asked, _HELD_BY_TEXT, "text.")
    if asked.get("verbosity") is not None:
        chat["verbosity"] = asked["verbosity"]
    form = _object(asked, "format", "text.")
    match form.get("type", "text"):
        case "json_schema":
            named = {name: form[name] for name in ("name", "description", "schema", "strict") if name in form}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        case "json_object":
            chat["response_format"] = {"type": "json_object"}
        case "text":
            pass
        case _:
            refusals.add("text.format")


def _object(payload: Mapping[str, Any], name: str, within: str = "") -> Mapping[str, Any]:
    """A member that must be an object; empty where it is absent or null. Raises BadRequest."""
    value = payload.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{within}{name}' must be an object", code="invalid_type", param=f"{within}{name}")
    return value
