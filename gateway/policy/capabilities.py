"""Which targets can serve a call, by what is known of their models.

Facts may be wrong or old, so they only choose between targets: where none of them can, all are tried as they stand,
and the provider's own words tell why it will not do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.core.capabilities import Capabilities
from gateway.core.exchange import Exchange, Target

_DOCUMENTS = ("file", "document", "input_file")
_EFFORTS = ("reasoning_effort", "reasoning", "thinking")


def able(exchange: Exchange, targets: Sequence[Target]) -> Sequence[Target]:
    """Those that can serve the call; all of them where none can."""
    if all(target.capabilities is None for target in targets):
        return targets
    return [target for target in targets if not lacks(target, exchange)] or targets


def lacks(target: Target, exchange: Exchange) -> str:
    """What the call wants and the target cannot do; "" if it can."""
    if target.capabilities is None:
        return ""
    return next((wish for wish, can in _wishes(exchange, target.capabilities) if not can), "")


def _wishes(exchange: Exchange, model: Capabilities) -> Iterator[tuple[str, bool]]:
    """Each thing the call asks for, with whether the model can do it."""
    payload, shape = exchange.call.payload, exchange.shape
    if payload.get("tools"):
        yield "tools", model.tools
        if payload.get("parallel_tool_calls") is True:
            yield "parallel tools", model.parallel_tools
    if shape.images:
        yield "images", model.images
    if not (
        model.documents and model.audio
    ):  # looked for only where it matters: it takes a walk over all parts
        kinds = set(_kinds(payload))
        yield "documents", model.documents or kinds.isdisjoint(_DOCUMENTS)
        yield "audio", model.audio or "input_audio" not in kinds
    if _wants_schema(payload):
        yield "a JSON schema", model.json_schema
    if any(payload.get(name) for name in _EFFORTS):
        yield "reasoning", model.reasoning
    if _is_begun(payload):
        yield "a prefilled answer", model.prefill
    if model.context:
        yield f"{shape.input_tokens} tokens of input", shape.input_tokens <= model.context
    if model.output:
        yield f"{shape.max_tokens} tokens of output", shape.max_tokens <= model.output


def _messages(payload: Mapping[str, Any]) -> list[Any]:
    messages = payload.get("messages")
    return messages if isinstance(messages, list) else []


def _kinds(payload: Mapping[str, Any]) -> Iterator[Any]:
    """The types of all content parts."""
    for message in _messages(payload):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield str(part.get("type"))


def _wants_schema(payload: Mapping[str, Any]) -> bool:
    """Chat's word for it, or Anthropic's."""
    asked, config = payload.get("response_format"), payload.get("output_config")
    if isinstance(config, dict) and config.get("format"):
        return True
    return isinstance(asked, dict) and asked.get("type") == "json_schema"


def _is_begun(payload: Mapping[str, Any]) -> bool:
    last = _messages(payload)[-1:]
    return bool(last) and isinstance(last[0], dict) and last[0].get("role") == "assistant"
