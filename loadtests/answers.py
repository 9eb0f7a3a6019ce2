"""An answer in every dialect: about a kilobyte each, and a stream of as many pieces as are wanted."""

import struct
from binascii import crc32
from collections.abc import Iterator

import orjson

from loadtests.calls import MODEL, Json

SAID = "The customer has been locked out since Tuesday; reset the second factor and write back today. " * 6

_CHAT_HEAD: Json = {"id": "chatcmpl-0123456789", "created": 1764000000, "model": MODEL}
_CHAT_USAGE = {
    "prompt_tokens": 210,
    "completion_tokens": 130,
    "total_tokens": 340,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_USAGE = {"input_tokens": 210, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
_GEMINI_USAGE = {"promptTokenCount": 210, "candidatesTokenCount": 130, "totalTokenCount": 340}
_CONVERSE_USAGE = {"inputTokens": 210, "outputTokens": 130, "totalTokens": 340}
_COHERE_USAGE = {
    "billed_units": {"input_tokens": 190, "output_tokens": 130},
    "tokens": {"input_tokens": 210, "output_tokens": 130},
}
_GEMINI_HEAD = {"modelVersion": MODEL, "responseId": "0123456789abcdef"}
_RESPONSES_USAGE = {
    "input_tokens": 210,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 130,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 340,
}


def _response(status: str, text: str) -> Json:
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]
    message = {
        "id": "msg_1",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content if text else [],
    }
    told = {"id": "resp_1", "object": "response", "created_at": 1764000000, "status": status, "model": MODEL}
    return {**told, "output": [message], "usage": _RESPONSES_USAGE if text else None}


def _candidate(text: str, reason: str | None) -> Json:
    found: Json = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return found | ({"finishReason": reason} if reason else {})


ANSWERS: dict[str, Json] = {
    "openai.chat": {
        **_CHAT_HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": SAID, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _CHAT_USAGE,
        "service_tier": "default",
    },
    "anthropic.messages": {
        "id": "msg_0123456789",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": SAID}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**_USAGE, "output_tokens": 130},
    },
    "openai.responses": _response("completed", SAID),
    "gemini.generate": {
        "candidates": [_candidate(SAID, "STOP")],
        "usageMetadata": _GEMINI_USAGE,
        **_GEMINI_HEAD,
    },
}
ANSWERS["bedrock.converse"] = {
    "output": {"message": {"role": "assistant", "content": [{"text": SAID}]}},
    "stopReason": "end_turn",
    "usage": _CONVERSE_USAGE,
    "metrics": {"latencyMs": 812},
}
ANSWERS["cohere.chat"] = {
    "id": "0123456789",
    "message": {"role": "assistant", "content": [{"type": "text", "text": SAID}]},
    "finish_reason": "COMPLETE",
    "usage": _COHERE_USAGE,
}
ANSWERS["gemini.array"] = ANSWERS["gemini.generate"]
ANSWERS["sagemaker.chat"] = ANSWERS["openai.chat"]  # what its container says


def stream(dialect: str, pieces: int) -> list[bytes]:
    """A whole stream whose text comes in so many pieces, each an event and a chunk of its own."""
    return list(_STREAMS[dialect](pieces))


def _event(payload: Json) -> bytes:
    name = payload["type"].encode()
    return b"event: %b\ndata: %b\n\n" % (name, orjson.dumps(payload))


def _chat(pieces: int) -> Iterator[bytes]:
    deltas: list[Json] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": " word"}] * pieces
    head = {**_CHAT_HEAD, "object": "chat.completion.chunk", "service_tier": "default"}
    for delta in [*deltas, {}]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}
        yield b"data: %b\n\n" % orjson.dumps({**head, "choices": [choice], "usage": None})
    yield b"data: %b\n\n" % orjson.dumps({**head, "choices": [], "usage": _CHAT_USAGE})
    yield b"data: [DONE]\n\n"


def _messages(pieces: int) -> Iterator[bytes]:
    answer = ANSWERS["anthropic.messages"]
    begun = {**answer, "content": [], "stop_reason": None, "usage": {**_USAGE, "output_tokens": 1}}
    yield _event({"type": "message_start", "message": begun})
    yield _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    delta = {"type": "text_delta", "text": " word"}
    for _ in range(pieces):
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
    yield _event({"type": "content_block_stop", "index": 0})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 130}})
    yield _event({"type": "message_stop"})


def _responses(pieces: int) -> Iterator[bytes]:
    yield _event({"type": "response.created", "response": _response("in_progress", "")})
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    told = {"delta": " word", "logprobs": [], "obfuscation": "kE8rTn2"}
    for number in range(pieces):
        yield _event({"type": "response.output_text.delta", "sequence_number": number, **place, **told})
    yield _event({"type": "response.completed", "response": _response("completed", " word" * pieces)})


def _gemini_answers(pieces: int) -> Iterator[bytes]:
    for number in range(pieces + 1):
        candidate = _candidate(" word", "STOP" if number == pieces else None)
        answer = {"candidates": [candidate], "usageMetadata": _GEMINI_USAGE, **_GEMINI_HEAD}
        yield orjson.dumps(answer)


def _gemini(pieces: int) -> Iterator[bytes]:
    for answer in _gemini_answers(pieces):
        yield b"data: %b\r\n\r\n" % answer


def _array(pieces: int) -> Iterator[bytes]:
    before = b"["
    for answer in _gemini_answers(pieces):
        yield before + answer
        before = b",\r\n"
    yield b"]"


def _converse(pieces: int) -> Iterator[bytes]:
    word = {"contentBlockIndex": 0, "delta": {"text": " word"}, "p": "abcdef"}
    events: list[tuple[str, Json]] = [
        ("messageStart", {"role": "assistant"}),
        *[("contentBlockDelta", word)] * pieces,
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _CONVERSE_USAGE, "metrics": {"latencyMs": 812}}),
    ]
    for kind, members in events:
        yield _frame(kind, orjson.dumps(members))


def _invocations(pieces: int) -> Iterator[bytes]:
    for event in _chat(pieces):
        yield _frame("PayloadPart", event)


def _frame(kind: str, payload: bytes) -> bytes:
    """An event of AWS: lengths, their checksum, headers, payload, the checksum of all."""
    named = {":event-type": kind, ":message-type": "event"}
    head = b"".join(
        b"%c%b\x07%b%b" % (len(name), name.encode(), len(value).to_bytes(2, "big"), value.encode())
        for name, value in named.items()
    )
    told = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    told += struct.pack(">I", crc32(told)) + head + payload
    return told + struct.pack(">I", crc32(told))


def _cohere(pieces: int) -> Iterator[bytes]:
    yield _event({"type": "message-start", "id": "0123456789", "delta": {"message": {"role": "assistant"}}})
    begun = {"message": {"content": {"type": "text", "text": ""}}}
    yield _event({"type": "content-start", "index": 0, "delta": begun})
    for _ in range(pieces):
        delta = {"message": {"content": {"text": " word"}}}
        yield _event({"type": "content-delta", "index": 0, "delta": delta})
    yield _event({"type": "content-end", "index": 0})
    yield _event({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": _COHERE_USAGE}})
    yield b"data: [DONE]\n\n"


_STREAMS = {
    "bedrock.converse": _converse,
    "cohere.chat": _cohere,
    "openai.chat": _chat,
    "anthropic.messages": _messages,
    "openai.responses": _responses,
    "gemini.generate": _gemini,
    "gemini.array": _array,
    "sagemaker.chat": _invocations,
}
