"""Which word of Bedrock's stands for which of chat's."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from gateway.wire.messages.words import FORMAT, chat_usage
from gateway.wire.sides import Json
from gateway.wire.sse import BadStream

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}
# What went wrong in the middle of a stream: the status it would have been, and OpenAI's word for its kind.
# Source: the API reference of ConverseStream.
EXCEPTIONS = {
    "internalServerException": (500, "api_error"),
    "modelStreamErrorException": (502, "api_error"),
    "modelTimeoutException": (504, "timeout_error"),
    "serviceUnavailableException": (503, "overloaded_error"),
    "throttlingException": (429, "rate_limit_error"),
    "validationException": (400, "invalid_request_error"),
}
# Where in a document a citation points: Anthropic's type and the names of its two ends there.
_LOCATIONS = {
    "documentChar": ("char_location", "start_char_index", "end_char_index"),
    "documentPage": ("page_location", "start_page_number", "end_page_number"),
    "documentChunk": ("content_block_location", "start_block_index", "end_block_index"),
}


def is_claude(model: str) -> bool:
    """Whether a model id, an inference profile or an ARN is one of Anthropic's."""
    return "anthropic." in model


def finish(reason: Any) -> str | None:
    """A stop reason in chat's words; one nobody here knows stays as it is."""
    return FINISH.get(str(reason), str(reason)) if reason is not None else None


def ending(stop: Mapping[str, Any]) -> Json:
    """What a choice says of its end. Which sequence stopped it is told only to who asks for it by
    `additionalModelResponseFieldPaths`."""
    said: Json = {"finish_reason": finish(stop.get("stopReason"))}
    if said["finish_reason"] == "error":
        said["native_finish_reason"] = stop["stopReason"]
    if stop.get("stopReason") != "stop_sequence":
        return said
    fields = stop.get("additionalModelResponseFields")
    return {**said, "stop_reason": str(fields.get("stop_sequence") or "") if isinstance(fields, dict) else ""}


def is_call(block: Mapping[str, Any]) -> bool:
    """Whether a block, or the start of one, is a call that the client is to answer: some tools Bedrock runs."""
    use = block.get("toolUse")
    return isinstance(use, dict) and use.get("type") != "server_tool_use"


def usage_of(counts: Mapping[str, Any]) -> Json:
    """Bedrock's usage as OpenAI's: what came from a cache or went into one stands beside `inputTokens`."""
    return chat_usage(
        {
            "input_tokens": counts.get("inputTokens"),
            "output_tokens": counts.get("outputTokens"),
            "cache_read_input_tokens": counts.get("cacheReadInputTokens"),
            "cache_creation_input_tokens": counts.get("cacheWriteInputTokens"),
        }
    )


def citation(cited: Json) -> Json:
    """A citation of a document as Anthropic writes it, whose models are those that cite; of a page as chat does; one of
    another kind as it came."""
    words = "".join(one.get("text") or "" for one in cited.get("sourceContent") or [])
    for name, place in (cited.get("location") or {}).items():
        if name == "web":
            page = {
                "url": place.get("url"),
                "title": cited.get("title") or "",
                "start_index": 0,
                "end_index": 0,
            }
            return {"type": "url_citation", "url_citation": page | ({"content": words} if words else {})}
        if name in _LOCATIONS:
            kind, start, end = _LOCATIONS[name]
            return {
                "type": kind,
                "cited_text": words,
                "document_index": place.get("documentIndex"),
                "document_title": cited.get("title"),
                start: place.get("start"),
                end: place.get("end"),
            }
    return cited


def thought(text: str, signature: str, index: int) -> Json:
    """Thinking in chat's words. Whose is signed on Bedrock are Claudes; that of others stays unsigned, and
    so do the pieces of a stream but for one: a client's SDK runs together what each of them says."""
    made: Json = {"type": "reasoning.text", "text": text, "index": index}
    return {**made, "signature": signature, "format": FORMAT} if signature else made


def hidden(content: str, index: int) -> Json:
    """Encrypted thinking: Converse writes as base64 what Anthropic writes as it is. Raises BadStream."""
    try:
        data = base64.b64decode(content, validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        raise BadStream("encrypted thinking is no base64") from None
    return {"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": index}


def reasoning(detail: Mapping[str, Any]) -> Json | None:
    """The block of thinking that comes back; None for what no Claude signed, which would be refused."""
    if detail.get("format") != FORMAT:
        return None
    if detail.get("type") == "reasoning.encrypted":
        data = str(detail.get("data", "")).encode("latin-1", "replace")
        return {"reasoningContent": {"redactedContent": base64.b64encode(data).decode()}}
    if not detail.get("signature"):
        return None
    said = {"text": detail.get("text") or "", "signature": detail["signature"]}
    return {"reasoningContent": {"reasoningText": said}}
