"""Server-sent events are cut at their blank lines, whatever the chunks and line ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import sse
from gateway.wire.sse import (
    BadStream,
    EventTooLarge,
    Splitter,
    check,
    data,
    events,
    is_done,
    is_usual,
    is_whole,
    speaks,
    tells_error,
)

ENDS = [b"\n", b"\r\n", b"\r"]
lines = st.sampled_from([b"data: {}", b"data:", b"data: a\xc3\xa9", b"event: x", b": comment", b"id: 1"])
# Of a line and of a blank one.
MIXED = [*((end, end) for end in ENDS), (b"\n", b"\r\n"), (b"\r\n", b"\n")]
Told = tuple[list[list[bytes]], tuple[bytes, bytes]]
streams = st.tuples(st.lists(st.lists(lines, min_size=1, max_size=3), max_size=6), st.sampled_from(MIXED))


def whole(told: list[list[bytes]], ends: tuple[bytes, bytes]) -> list[bytes]:
    end, blank = ends
    return [end.join(event) + end + blank for event in told]


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """Pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    return [*pieces, stream]


@given(
    streams, st.lists(st.integers(0, 12), max_size=40), st.sampled_from([b"", b"data: half", b"data: half\n"])
)
def test_any_chunking_gives_the_same_events(told: Told, sizes: list[int], half: bytes) -> None:
    complete = whole(*told)
    splitter = Splitter()
    blocks = [splitter.feed(piece) for piece in cut(b"".join(complete) + half, sizes)]
    assert [event for block in blocks for event in events(block)] == complete
    assert splitter.rest() == half


@given(streams)
def test_an_event_passes_no_later_than_with_its_last_byte(told: Told) -> None:
    splitter = Splitter()
    for event in whole(*told):
        passed = [splitter.feed(bytes([byte])) for byte in event]
        assert passed == [b""] * (len(event) - 1) + [event]


def test_a_chunk_of_whole_events_passes_as_the_very_same_object() -> None:
    for blank in (b"\n", b"\r\n"):
        chunk = b"data: 1\n\ndata: 2\n" + blank
        assert Splitter().feed(chunk) is chunk


def test_a_block_of_one_event_without_its_blank_line_is_that_event() -> None:
    assert list(events(b"data: 1")) == [b"data: 1"]
    assert list(events(b"")) == []


def test_events_of_one_block_may_end_their_lines_differently() -> None:
    assert list(events(b"data: 1\r\n\r\ndata: 2\n\ndata: 3\r\r")) == [
        b"data: 1\r\n\r\n",
        b"data: 2\n\n",
        b"data: 3\r\r",
    ]


@pytest.mark.parametrize("end", ENDS)
def test_data_lines_are_joined_and_lose_one_blank(end: bytes) -> None:
    event = end.join([b"event: x", b"data: one", b"data:two", b"data:  three", b": comment", b"", b""])
    assert data(event) == b"one\ntwo\n three"


@pytest.mark.parametrize("end", ENDS)
def test_the_last_event_is_known_at_the_start_of_its_line_alone(end: bytes) -> None:
    assert is_done(b"data: [DONE]" + end + end)
    assert is_done(b"data: {}" + end + end + b"data:[DONE]" + end + end)
    assert not is_done(b'data: "data: [DONE]"' + end + end)
    assert not is_done(b": [DONE]" + end + end)


@pytest.mark.parametrize("end", ENDS)
def test_events_are_checked_where_they_are_not_written_as_usual(end: bytes) -> None:
    for sound in (
        b'data: {"a":1}', b'data:{"a":"\\ud83d"}', b'event: x.y\ndata: {"a":1}', b'id: 1\ndata: {"a":\ndata: 1}',
        b"data: [DONE]", b": comment", b"data:", b"data: NaN", b"data: [1]", b"event: ping",
    ):  # fmt: skip
        whole = sound.replace(b"\n", end) + end + end
        for block in (whole, b'data: {"b":2}\n\n' + whole, whole + b'data: {"b":2}\n\n'):
            check(block)
            for broken in (b'data: {"a":', b"data: {a}", b'event: x\ndata: {"a":1', b"data: x"):
                odd = block + broken.replace(b"\n", end) + end + end
                assert not is_usual(odd)
                with pytest.raises(BadStream, match="an event is not valid JSON"):
                    check(odd)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("strange", [b"<html>10.0.0.7</html>", b'{"error": "bad key sk-1"}'])
def test_what_is_no_event_does_not_pass_among_them(strange: bytes, end: bytes) -> None:
    for before in (b"", b'data: {"a":1}' + end + end):
        block = before + strange + end + end
        assert not is_usual(block)
        with pytest.raises(BadStream, match="no event"):
            check(block)


@pytest.mark.parametrize(
    "rest", [b'data: {"a": 1}', b"data: [DONE]", b"event: x\r\ndata: [1]\r\n", b'data: "a"']
)
def test_an_event_may_lack_its_blank_line_alone(rest: bytes) -> None:
    assert is_whole(rest)


@pytest.mark.parametrize("rest", [b"", b": x", b"event: x", b"data:", b'data: {"a": 1', b"data: 12", b"da"])
def test_one_that_lacks_more_is_cut(rest: bytes) -> None:
    assert not is_whole(rest)


def test_usual_are_objects_with_or_without_a_name_and_a_blank() -> None:
    for end in (b"\n", b"\r\n"):
        blocks = [
            b'data: {"a":1}',
            b'data:{"a":{}}',
            b'event: x.y\ndata: {"a":1}',
            b'event:x\ndata: {"a":"}{"}',
        ]
        told = [one.replace(b"\n", end) + end + end for one in blocks]
        assert all(map(is_usual, [*told, b"".join(told)]))


def test_comments_and_the_last_event_say_nothing() -> None:
    for silent in (b"", b": data: x\n\n", b"data:\n\n", b": x\n\ndata: [DONE]\n\n", b"event: x\n\n"):
        assert not speaks(silent)
    for told in (b"data: x\n\n", b"data: [DONE]\n\ndata: {}\n\n"):
        assert speaks(told)


@pytest.mark.parametrize("end", ENDS)
def test_an_error_is_known_by_its_name_or_by_what_stands_at_its_top(end: bytes) -> None:
    for told in (
        b"event: error" + end + b'data: {"message":"boom"}',
        b"event:error" + end + b"data: boom",
        b'data: {"error":{"message":"no"}}',
        b'data: {"error":"no"}',
        b"data: {}" + end + end + b'data: {"type":"error"}',
        b'data: {"object": "error"}',
    ):
        assert tells_error(told + end + end)
    for told in (
        b"event: errors" + end + b"data: {}",
        b'data: {"text":"event: error"}',
        b'data: {"error":null,"note":{"error":"x"}}',
        b'data: {"item":{"type":"error"}}',
        b'data: {"type":"error"',
    ):
        assert not tells_error(told + end + end)


def test_a_stream_may_begin_with_the_mark_of_its_encoding() -> None:
    assert data(b"\xef\xbb\xbfdata: one\n\n") == b"one"


def test_a_comment_holds_no_data() -> None:
    assert data(b": keep-alive\n\n") == b""


def test_a_stream_that_never_ends_an_event_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MOST_EVENT", 100)
    splitter = Splitter()
    assert splitter.feed(b"data: " + b"x" * 94) == b""
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")
    assert Splitter().feed(b"data: " + b"x" * 200 + b"\n\n")  # one that is whole is nobody's burden


@pytest.mark.parametrize("error", ["429", "true", '["x"]', '"x"', '{"message": "x"}'])
def test_an_error_of_any_kind_is_one(error: str) -> None:
    assert tells_error(b'data: {"error": %b, "message": "q"}\n\n' % error.encode())


@pytest.mark.parametrize("nothing", ["null", "false", "{}", '""', "  null"])
def test_an_error_that_says_nothing_is_none(nothing: str) -> None:
    assert not tells_error(b'data: {"error": %b, "choices": []}\n\n' % nothing.encode())


def test_beside_an_error_an_event_that_was_cut_is_left_out() -> None:
    said, error = b'data: {"a":{"b":1}}\n\n', b'event: error\ndata: {"error":{}}\n\n'
    whole = b": waits\n\n" + said + error + b"data: [DONE]\n\n"
    assert sse.uncut(whole) is whole
    assert sse.uncut(said + b'data: {"a":{"b":1}\n\n' + error) == said + error
