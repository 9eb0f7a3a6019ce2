"""What recordings of Bedrock say, read by Amazon's own parser: apart from the code under test."""

import base64
from typing import Any

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer

from tests.contract.recorded import Record, answer_of
from tests.contract.test_messages import Told
from tests.scripted import Asked

EVENT_STREAM = "application/vnd.amazon.eventstream"
REASONS = {
    "end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool_calls", "max_tokens": "length",
    "guardrail_intervened": "content_filter",
}  # fmt: skip
ENDS = {
    "documentChar": ("char_location", "char_index"), "documentPage": ("page_location", "page_number"),
    "documentChunk": ("content_block_location", "block_index"),
}  # fmt: skip


def frames(raw: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """(headers, payload) of each message."""
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    return [(one.headers, one.payload) for one in buffer]


def pieces(record: Record) -> list[bytes]:
    """The messages of a stream, each by itself."""
    raw, at, found = answer_of(record), 0, []
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        found.append(raw[at : at + size])
        at += size
    return found


def as_streamed(record: Record) -> Record:
    """Some recorders kept no headers, and no stream is told without its content type."""
    return record | {"response": record["response"] | {"headers": {"content-type": EVENT_STREAM}}}


class Heard(Told):
    """With the sources that are cited."""

    def __init__(self) -> None:
        super().__init__()
        self.cited: list[dict[str, Any]] = []


def expected(record: Record) -> Heard:
    blocks, counts = (blocks_of(record), usage_of(record)) if record["streaming"] else whole_of(record)
    told = Heard()
    for block in blocks:
        _hear(told, block)
    told.reason = REASONS[stop_reason(record)]
    cached, written = counts.get("cacheReadInputTokens", 0), counts.get("cacheWriteInputTokens", 0)
    told.usage = {
        "prompt": counts.get("inputTokens", 0) + cached + written,
        "cached": cached,
        "completion": counts.get("outputTokens", 0),
    }
    return told


def whole_of(record: Record) -> tuple[list[dict[str, Any]], dict[str, int]]:
    answer = orjson.loads(answer_of(record))
    return answer["output"]["message"]["content"], answer.get("usage") or {}


def of_kind(record: Record, kind: str) -> list[Any]:
    return [
        orjson.loads(payload)
        for headers, payload in frames(answer_of(record))
        if headers[":event-type"] == kind
    ]


def usage_of(record: Record) -> dict[str, int]:
    [metadata] = of_kind(record, "metadata")
    return metadata.get("usage") or {}


def stop_reason(record: Record) -> str:
    [stop] = of_kind(record, "messageStop") if record["streaming"] else [orjson.loads(answer_of(record))]
    reason: str = stop["stopReason"]
    return reason


def blocks_of(record: Record) -> list[dict[str, Any]]:
    """The content blocks of a stream, put together."""
    blocks: dict[int, dict[str, Any]] = {}
    for event in of_kind(record, "contentBlockStart"):
        blocks[event["contentBlockIndex"]] = {"toolUse": event["start"]["toolUse"] | {"input": ""}}
    for event in of_kind(record, "contentBlockDelta"):
        _grow(blocks.setdefault(event["contentBlockIndex"], {}), event["delta"])
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = orjson.loads(block["toolUse"]["input"] or "{}")
    return [block for _, block in sorted(blocks.items())]


def _grow(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "citation" in delta:
        block.setdefault("citations", []).append(delta["citation"])
    else:
        said = block.setdefault("reasoningContent", {"reasoningText": {"text": "", "signature": ""}})
        for name, text in delta["reasoningContent"].items():
            said["reasoningText"][name] += text


def _hear(told: Heard, block: dict[str, Any]) -> None:
    told.text += block.get("text", "")
    sources = block.get("citations", [])
    if cited := block.get("citationsContent"):
        told.text += "".join(one["text"] for one in cited["content"])
        sources = cited["citations"]
    told.cited += [_cited(one) for one in sources]
    if use := block.get("toolUse"):
        told.calls.append([use["toolUseId"], use["name"], orjson.dumps(use["input"]).decode()])
    if said := block.get("reasoningContent"):
        if "redactedContent" in said:
            told.signatures.append(base64.b64decode(said["redactedContent"]).decode())
        else:
            told.thought += said["reasoningText"]["text"]
            told.signatures.append(said["reasoningText"].get("signature") or "")


def _cited(citation: dict[str, Any]) -> dict[str, Any]:
    """As Anthropic writes it."""
    [(name, place)] = citation["location"].items()
    kind, end = ENDS[name]
    return {
        "type": kind,
        "cited_text": citation["sourceContent"][0]["text"],
        "document_index": place["documentIndex"],
        "document_title": citation["title"],
        f"start_{end}": place["start"],
        f"end_{end}": place["end"],
    }


def signature(asked: Asked, secret: str, service: str = "bedrock") -> str:
    """What Amazon's library would sign of a request as it arrived."""
    method, target, _ = asked.line.split(" ")
    kept = ("host", "content-type", "x-amz-date", "x-amz-security-token")
    headers = {name: asked.headers[name] for name in kept if name in asked.headers}
    request = AWSRequest(method, f"http://{asked.headers['host']}{target}", headers, asked.body)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    auth = SigV4Auth(Credentials("AKIDEXAMPLE", secret), service, "eu-central-1")
    told = auth.string_to_sign(request, auth.canonical_request(request))
    found: str = auth.signature(told, request)
    return found
