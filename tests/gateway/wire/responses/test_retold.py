"""A response that is told as the other kind keeps its provider's words and id."""

from typing import Any

import orjson
import pytest

from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked
from gateway.wire.crossing import CrossingTap
from gateway.wire.registry import DIALECTS, retold
from tests.contract.recorded import answer_of, recorded


def tap(usage: Usage) -> CrossingTap:
    way = retold("openai.responses")
    assert way is not None
    again = way.tap(Asked({}, usage))
    assert isinstance(again, CrossingTap)
    return again


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (str(one["type"]).encode(), orjson.dumps(one)) for one in events
    )


def test_recorded_answers_are_told_as_streams_and_streams_as_answers() -> None:
    answers = [one for one in recorded("openai", "responses") if one["response"]["status"] == 200]
    assert len(answers) > 150
    for record in answers:
        usage, watched = Usage(), DIALECTS["openai.responses"].tap(Asked({}, Usage()))
        if record["streaming"]:
            said = orjson.loads(tap(usage).whole_of(answer_of(record)))
            assert said["id"].encode() in answer_of(record)
            watched.whole(orjson.dumps(said))
        else:
            told = tap(usage).streamed(answer_of(record))
            assert told is not None, record["id"]
            watched.feed(told)
            events = [orjson.loads(sse.data(one)) for one in sse.events(told)]
            assert [one["sequence_number"] for one in events] == list(range(len(events)))
            assert events[-1]["response"] == orjson.loads(answer_of(record))
        assert (watched.finished, watched.failed) == (True, False), record["id"]
        assert usage.reported


def test_what_is_none_is_told_as_nothing() -> None:
    assert tap(Usage()).streamed(b'{"status": "failed", "output": [], "error": {"message": "no"}}') is None
    failed = b'event: error\ndata: {"type":"error","message":"no"}\n\n'
    assert tap(Usage()).whole_of(failed) == b""


def test_a_last_event_without_its_response_is_no_answer() -> None:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "delta": "hi"},
        {"type": "response.completed"},
    ]
    with pytest.raises(sse.BadStream):
        tap(Usage()).whole_of(stream(*events))


@pytest.mark.parametrize("output", [{}, {"output": []}, {"output": None}])
def test_items_that_the_last_event_leaves_out_are_those_that_were_told(output: dict[str, Any]) -> None:
    part = {"type": "output_text", "text": "hi", "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "delta": "hi"}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    last = {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", **output}}
    said = orjson.loads(tap(Usage()).whole_of(stream(delta, done, last)))
    assert (said["id"], said["output"]) == ("resp_1", [item])
    (made,) = orjson.loads(tap(Usage()).whole_of(stream(delta, last)))["output"]
    assert made["content"][0]["text"] == "hi", "of a message that was never said to be done"
