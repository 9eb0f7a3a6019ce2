"""An answer that cites, in every format that providers speak: a page by its address, a document by its title."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.core.usage import Usage
from gateway.wire.base import Asked, Way
from tests.gateway.wire import frames

Json = dict[str, Any]

MARK = "https://mark.test/9"  # the page, or what the document is called
_PAGE = {"url": MARK, "title": "t", "start_index": 0, "end_index": 1}
_CHAT = {"type": "url_citation", "url_citation": _PAGE}
_SEARCHED = {"search_results": [{"url": MARK, "title": "t"}]}
_PAGE_OF_CLAUDE = {
    "type": "web_search_result_location", "url": MARK, "title": "t", "cited_text": "x", "encrypted_index": "e",
}  # fmt: skip
_DOCUMENT_OF_CLAUDE = {
    "type": "char_location", "cited_text": "x", "document_index": 0, "document_title": MARK, "start_char_index": 0,
    "end_char_index": 1,
}  # fmt: skip
_AMAZON = {"title": "t", "location": {"web": {"url": MARK, "domain": "mark.test"}}}
_DOCUMENT_OF_AMAZON = {
    "title": MARK,
    "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 1}},
}
_GOOGLE = {"web": {"uri": MARK, "title": "t"}}
_DOCUMENT_OF_GOOGLE = {"retrievedContext": {"title": MARK, "text": "x"}}
_COHERE = {"type": "document", "id": "d", "document": {"url": MARK, "title": "t"}}
_DOCUMENT_OF_COHERE = {"type": "document", "id": "d", "document": {"title": MARK}}


class Cited(NamedTuple):
    """An answer that cites, whole and as a stream."""

    whole: Json
    stream: bytes


def _events(events: Iterable[Json]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (str(one.get("type", "x")).encode(), orjson.dumps(one)) for one in events
    )


def _chat(told: Json, beside: Mapping[str, Any] = {}) -> Cited:
    ended = {"index": 0, "finish_reason": "stop"}
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "a"}}], **beside},
        {"choices": [{**ended, "delta": told}], **beside},
    ]
    stream = b"".join(b"data: %b\n\n" % orjson.dumps(one) for one in chunks) + b"data: [DONE]\n\n"
    return Cited({"choices": [{**ended, "message": {"content": "a", **told}}], **beside}, stream)


def _claude(citation: Json) -> Cited:
    head: Json = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": None,
        "usage": {},
    }
    text = {"type": "text", "text": "a", "citations": [citation]}
    deltas = [{"type": "text_delta", "text": "a"}, {"type": "citations_delta", "citation": citation}]
    events: list[Json] = [
        {"type": "message_start", "message": {**head, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return Cited({**head, "content": [text], "stop_reason": "end_turn"}, _events(events))


def _responses(annotation: Json) -> Cited:
    part = {"type": "output_text", "text": "a", "annotations": [annotation]}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    answer = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item]}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Json] = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "delta": "a", **place},
        {"type": "response.output_text.annotation.added", "annotation": annotation, **place},
        {"type": "response.completed", "response": answer},
    ]
    return Cited(answer, _events(events))


def _amazon(citation: Json) -> Cited:
    cited = {"citationsContent": {"content": [{"text": "a"}], "citations": [citation]}}
    message = {"role": "assistant", "content": [cited]}
    events: list[tuple[str, Json]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a"}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": citation}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {}}),
    ]
    stream = b"".join(frames.event(kind, **members) for kind, members in events)
    return Cited({"output": {"message": message}, "stopReason": "end_turn", "usage": {}}, stream)


def _google(chunk: Json) -> Cited:
    support = {"segment": {"endIndex": 1}, "groundingChunkIndices": [0]}
    candidate = {
        "content": {"role": "model", "parts": [{"text": "a"}]},
        "finishReason": "STOP",
        "groundingMetadata": {"groundingChunks": [chunk], "groundingSupports": [support]},
    }
    answer = {"candidates": [candidate], "usageMetadata": {}}
    return Cited(answer, b"data: %b\r\n\r\n" % orjson.dumps(answer))


def _cohere(source: Json) -> Cited:
    citation = {"start": 0, "end": 1, "text": "a", "sources": [source]}
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}], "citations": [citation]}
    begun, words = ({"message": {"content": one}} for one in ({"type": "text", "text": ""}, {"text": "a"}))
    events: list[Json] = [
        {"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-start", "index": 0, "delta": begun},
        {"type": "content-delta", "index": 0, "delta": words},
        {"type": "content-end", "index": 0},
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": citation}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {}}},
    ]
    return Cited({"id": "i", "finish_reason": "COMPLETE", "message": message, "usage": {}}, _events(events))


def _framed(cited: Cited) -> Cited:
    """A stream of Claude's in Bedrock's frames."""
    told = [event.split(b"data: ")[1] for event in cited.stream.split(b"\n\n") if event]
    chunks = [frames.event("chunk", bytes=base64.b64encode(one).decode()) for one in told]
    return cited._replace(stream=b"".join(chunks))


def _in_parts(cited: Cited) -> Cited:
    return cited._replace(stream=frames.message(cited.stream, frames.text(":event-type", "PayloadPart")))


# By provider type where it cites in a way of its own, else by what it is spoken to in.
PAGES: Mapping[str, Cited] = {
    "perplexity": _chat({}, _SEARCHED),
    "openai.chat": _chat({"annotations": [_CHAT]}),
    "sagemaker.chat": _in_parts(_chat({"annotations": [_CHAT]})),
    "openai.responses": _responses({"type": "url_citation", **_PAGE}),
    "anthropic.messages": _claude(_PAGE_OF_CLAUDE),
    "bedrock.messages": _framed(_claude(_PAGE_OF_CLAUDE)),
    "bedrock.converse": _amazon(_AMAZON),
    "gemini.generate": _google(_GOOGLE),
    "cohere.chat": _cohere(_COHERE),
}
DOCUMENTS: Mapping[str, Cited] = {
    "anthropic.messages": _claude(_DOCUMENT_OF_CLAUDE),
    "bedrock.messages": _framed(_claude(_DOCUMENT_OF_CLAUDE)),
    "bedrock.converse": _amazon(_DOCUMENT_OF_AMAZON),
    "gemini.generate": _google(_DOCUMENT_OF_GOOGLE),
    "cohere.chat": _cohere(_DOCUMENT_OF_COHERE),
}


def is_told(way: Way, payload: Mapping[str, Any], cited: Cited) -> bool:
    """Whether the client learns of the source, which it does of a stream as of a whole answer."""
    body = orjson.dumps(cited.whole)
    whole = way.tap(Asked(payload, Usage())).whole(body) or body
    tap = way.tap(Asked(payload, Usage()))
    stream = tap.feed(cited.stream) + tap.rest()
    assert not tap.failed, stream
    assert (MARK.encode() in whole) is (MARK.encode() in stream), "a stream tells what a whole answer does"
    return MARK.encode() in whole
