import orjson

from gateway.core.exchange import Shape, Trace
from gateway.usage.event import begun, died, ended
from tests.gateway.usage.books import call


def test_an_end_holds_all_that_its_beginning_said() -> None:
    one = call()
    begin, end = orjson.loads(begun(one)), orjson.loads(ended(one, begun(one)))
    assert end == {**end, **begin, "e": "end"}


def test_the_id_and_the_kind_stand_where_the_collector_looks() -> None:
    one = call()
    for line, kind in ((begun(one), b"begin"), (ended(one, begun(one)), b"end")):
        assert line[7:39] == one.id.encode()
        assert line[39:].startswith(b'","e":"' + kind)


def test_times_are_milliseconds_and_a_stream_has_its_first_token() -> None:
    one = call()
    one.first_token, one.waited = 0.25, 0.4
    one.trace = Trace("a" * 32, "", "b" * 16, True)
    end = orjson.loads(ended(one, begun(one)))
    assert (end["ms"], end["upstream_ms"], end["ttft_ms"], end["trace_id"]) == (500.0, 400.0, 250.0, "a" * 32)


def test_an_attempt_that_got_no_answer_says_why() -> None:
    one = call()
    assert all("why" not in row for row in orjson.loads(ended(one, begun(one)))["attempts"])
    one.attempts[-1].why = "10.0.0.7:443: connection closed in mid-call"
    row = orjson.loads(ended(one, begun(one)))["attempts"][-1]
    assert row["why"] == "10.0.0.7:443: connection closed in mid-call"


def test_what_no_provider_accounted_for_is_an_estimate_if_it_was_sent() -> None:
    one = call()
    one.usage.reported = False
    assert orjson.loads(ended(one, begun(one)))["estimated"]
    shape, one.shape = one.shape, Shape(0, 0, 0)
    assert not orjson.loads(ended(one, begun(one)))["estimated"], "nobody would count anything"
    one.shape, one.attempts[-1].sent = shape, False
    assert not orjson.loads(ended(one, begun(one)))["estimated"]


def test_a_call_whose_process_died_is_charged_its_prompt() -> None:
    row = died(orjson.loads(begun(call())))
    assert (row["prompt"], row["completion"], row["estimated"], row["outcome"]) == (
        9,
        0,
        True,
        "gateway_died",
    )
