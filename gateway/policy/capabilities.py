"""Which targets can serve a call, by what is known of their models.

Facts may be wrong or old, so they only choose between targets: where none of them can, all are tried as they stand,
and the provider's own words tell why it will not do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.core.capabilities import Capabilities
from gateway.core.exchange import Exchange, Target
from gateway.wire.gemini.words import camel

_DOCUMENTS = ("file", "document", "input_file", "application/pdf")
_SOUNDS = ("input_audio", "audio")
_NO_EFFORT = (None, "", "none")


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
    if payload.get("tools") or payload.get("functions"):
        yield "tools", model.tools
        if payload.get("parallel_tool_calls") is True:
            yield "parallel tools", model.parallel_tools
    if shape.images:
        yield "images", model.images
    if not (model.documents and model.audio):
        # Looked for only where it matters: it takes a walk over all parts.
        kinds = set(_kinds(payload))
        yield "documents", model.documents or kinds.isdisjoint(_DOCUMENTS)
        yield "audio", model.audio or kinds.isdisjoint(_SOUNDS)
    if _wants_schema(payload):
        yield "a JSON schema", model.json_schema
    if _wants_thoughts(payload):
        yield "reasoning", model.reasoning
    if _is_begun(payload):
        yield "a prefilled answer", model.prefill
    if model.context:
        yield f"{shape.input_tokens} tokens of input", shape.input_tokens <= model.context
    if model.output:
        yield f"{shape.max_tokens} tokens of output", shape.max_tokens <= model.output


def _turns(payload: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What was said so far: messages, the items of Responses, Gemini's contents."""
    for name in ("messages", "input", "contents"):
        listed = payload.get(name)
        yield from (one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()


def _kinds(payload: Mapping[str, Any]) -> Iterator[str]:
    """The types of all content parts, those that tools gave back among them; of Gemini's their media types, of sounds
    only that they are ones."""
    for turn in _turns(payload):
        yield from _parts(turn.get("content") or turn.get("parts") or turn.get("output"))
    if "audio" in (asked if isinstance(asked := payload.get("modalities"), list) else ()):
        yield "audio"


def _parts(parts: Any) -> Iterator[str]:
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        named = camel(part)
        media = str(camel(named.get("inlineData") or named.get("fileData")).get("mimeType") or "")
        yield "audio" if media.startswith("audio/") else media or str(part.get("type"))
        yield from _parts(camel(named.get("functionResponse")).get("parts"))
        if part.get("type") == "tool_result":
            yield from _parts(part.get("content"))


def _wants_schema(payload: Mapping[str, Any]) -> bool:
    """In the words of chat, Messages, Responses or Gemini."""
    config = _config(payload)
    return (
        _object(payload, "response_format").get("type") == "json_schema"
        or bool(_object(payload, "output_config").get("format"))
        or _object(_object(payload, "text"), "format").get("type") == "json_schema"
        or bool(config.get("responseSchema") or config.get("responseJsonSchema"))
    )


def _wants_thoughts(payload: Mapping[str, Any]) -> bool:
    thinks = camel(_config(payload).get("thinkingConfig"))
    return (
        payload.get("reasoning_effort") not in _NO_EFFORT
        or _object(payload, "reasoning").get("effort") not in _NO_EFFORT
        or _object(payload, "output_config").get("effort") not in _NO_EFFORT
        or _object(payload, "thinking").get("type", "disabled") != "disabled"
        or bool(thinks.get("thinkingLevel") or thinks.get("thinkingBudget"))
    )


def _is_begun(payload: Mapping[str, Any]) -> bool:
    last = list(_turns(payload))[-1:]
    return bool(last) and last[0].get("role") in ("assistant", "model")


def _config(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    return camel(payload.get("generationConfig") or payload.get("generation_config"))


def _object(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}
