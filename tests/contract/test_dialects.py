"""What every dialect of the registry promises: the client's bytes out, and one account whatever the chunks."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest, Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.registry import DIALECTS
from tests.scripted import DONE, FINISH, USAGE, event, word

every = pytest.mark.parametrize("name", sorted(DIALECTS))
BODY = (
    b'{"messages": [], "contents": [], "content": {}, "requests": [], "prompt":"p" ,\n"input": "i", "model": "m",'
    b'"query": "q", "documents": ["d"],'
    b'"n": 2, "unknown": {"model": 1.0}}'
)
COUNTS = {"input_tokens": 7, "output_tokens": 3}
GEMINI_COUNTS = {"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}
STREAMS = {
    "openai.chat": [b": hi\n\n", word("h\u00e9", usage=None), word("llo"), FINISH, USAGE, DONE],
    "gemini.generate": [
        event(
            candidates=[{"content": {"parts": [{"text": "h\u00e9llo"}]}}],
            usageMetadata={"promptTokenCount": 7},
        ),
        event(candidates=[{"finishReason": "STOP"}], usageMetadata=GEMINI_COUNTS).replace(
            b"\n\n", b"\r\n\r\n"
        ),
    ],
    "gemini.array": [
        b'[{"candidates": [{"content": {"parts": [{"text": "h\xc3\xa9]}\\"llo"}]}}]}\n,\r\n',
        orjson.dumps({"candidates": [{"finishReason": "STOP"}], "usageMetadata": GEMINI_COUNTS}),
        b"\n]\n",
    ],
    "openai.completions": [event(choices=[{"text": "hello", "finish_reason": "stop"}]), USAGE, DONE],
    "openai.raw": [
        b"event: response.created\n" + event(type="response.created"),
        b"event: response.completed\n" + event(type="response.completed", response={"usage": COUNTS}),
    ],
    "openai.responses": [
        b"event: response.created\n" + event(type="response.created"),
        b"event: response.output_text.delta\n" + event(type="response.output_text.delta", delta="h\u00e9llo"),
        b"event: response.completed\n" + event(type="response.completed", response={"usage": COUNTS}),
    ],
    "anthropic.messages": [
        b"event: message_start\n"
        + event(type="message_start", message={"usage": {**COUNTS, "output_tokens": 1}}),
        b"event: ping\n" + event(type="ping"),
        event(type="content_block_delta", delta={"type": "text_delta", "text": "h\u00e9llo"}),
        event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
        event(type="message_stop"),
    ],
}


def call(name: str) -> Call:
    payload, model, stream = DIALECTS[name].read(BODY)
    return Call("route", name, "POST", "/path", BODY, payload, model or "m", stream)  # Gemini's paths name it


@every
def test_what_is_read_is_written_as_the_very_same_bytes(name: str) -> None:
    assert DIALECTS[name].write(call(name), Changes("m")) is BODY


@every
def test_another_model_changes_its_name_alone(name: str) -> None:
    """Gemini's stands in the path, which its provider writes; where embeddings name it again, with a prefix."""
    renamed = {"gemini.embed": b'"models/other",', "gemini.batch_embed": b'"models/other",'}
    if name.startswith("gemini.") and name not in renamed:
        renamed[name] = b'"m",'
    expected = BODY.replace(b'"m",', renamed.get(name, b'"other",'))
    assert DIALECTS[name].write(call(name), Changes("other")) == expected


@every
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}", b'{"model": 1}', b"[" * 100_000])
def test_what_is_no_call_is_refused(name: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        DIALECTS[name].read(body)


@every
def test_a_broken_stream_ends_in_an_event_that_carries_the_error(name: str) -> None:
    error = UpstreamFailed("it broke", Failure.BROKEN)
    told = DIALECTS[name].error_event(error, "r")
    if name == "gemini.array":
        assert told.startswith(b",")
        assert told.endswith(b"]")
        told = b"data: %b\n\n" % told[1:-1]
    assert told.replace(b"\r\n", b"\n").endswith(b"\n\n")
    payload = orjson.loads(told.partition(b"data: ")[2])
    if name.startswith("gemini."):
        assert (payload["error"]["message"], payload["error"]["status"]) == ("it broke", "INTERNAL")
        return
    openai = {"param": None, "code": "upstream_error"} if name.startswith(("openai", "cohere")) else {}
    assert payload["error"] == {"message": "it broke", "type": "api_error", **openai}


@pytest.mark.parametrize("name", sorted(STREAMS))
@given(sizes=st.lists(st.integers(1, 60), max_size=60), withhold=st.booleans())
def test_any_chunking_gives_the_same_bytes_and_the_same_account(
    name: str, sizes: list[int], withhold: bool
) -> None:
    def watched(chunks: list[bytes]) -> tuple[bytes, Usage, bool, bool, str]:
        usage = Usage()
        tap = DIALECTS[name].tap(Asked({}, usage, withhold_usage=withhold))
        passed = b"".join([*(tap.feed(chunk) for chunk in chunks), tap.rest()])
        return passed, usage, tap.begun, tap.finished, tap.finish_reason

    left, pieces = b"".join(STREAMS[name]), []
    for size in sizes:
        pieces.append(left[:size])
        left = left[size:]
    seen = watched([*pieces, left])
    assert seen == watched(STREAMS[name])
    assert seen[1:4] == (Usage(7, 3, reasoning=seen[1].reasoning, reported=True), True, True)
