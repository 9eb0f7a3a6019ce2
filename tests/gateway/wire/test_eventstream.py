"""The binary event stream of AWS: whole messages, whatever the chunks, and nothing that a checksum denies."""

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.eventstream import Message, Splitter
from gateway.wire.sse import MOST_EVENT, BadStream, EventTooLarge
from tests.gateway.wire.frames import exception, header, message, prelude, text

# One header of every type there is; those that are no text are passed over.
EVERY = (
    header("t", 0, b"") + header("f", 1, b"") + header("b", 2, b"\1") + header("s", 3, b"\0\1")
    + header("i", 4, bytes(4)) + header("l", 5, bytes(8)) + header("raw", 6, b"\0\3abc")
    + text(":event-type", "word") + header("at", 8, bytes(8)) + header("id", 9, bytes(16))
)  # fmt: skip


@given(
    payloads=st.lists(st.binary(max_size=50), max_size=5),
    sizes=st.lists(st.integers(1, 30), max_size=40),
)
def test_any_chunking_gives_the_same_messages_as_amazons_own_parser(
    payloads: list[bytes], sizes: list[int]
) -> None:
    raw = b"".join(message(payload, EVERY) for payload in payloads)
    buffer, splitter, found, left = EventStreamBuffer(), Splitter(), [], raw
    for size in [*sizes, len(raw)]:
        found += splitter.feed(left[:size])
        left = left[size:]
    buffer.add_data(raw)
    assert [one.payload for one in found] == [one.payload for one in buffer] == payloads
    assert all(one.headers == {":event-type": "word"} for one in found)
    assert splitter.held == 0


@given(place=st.integers(0, 70), bit=st.integers(0, 7))
def test_no_bit_can_turn_over_unseen(place: int, bit: int) -> None:
    raw = bytearray(message(b"payload", text(":event-type", "word") + text("x", "y" * 20)))
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(BadStream, match="checksum"):
        Splitter().feed(bytes(raw))


def test_half_a_message_is_held() -> None:
    splitter, raw = Splitter(), message(b"{}")
    assert splitter.feed(raw + raw[:7]) == [Message({}, b"{}")]
    assert splitter.held == 7


def test_a_message_that_is_too_large_or_shorter_than_its_headers_is_refused() -> None:
    with pytest.raises(EventTooLarge, match="32 MiB"):
        Splitter().feed(prelude(MOST_EVENT + 1, 0))
    with pytest.raises(BadStream, match="shorter than its headers"):
        Splitter().feed(prelude(20, 5))


@pytest.mark.parametrize(
    "block", [b"\x05ab", header("x", 12, b""), text("x", "abc")[:-1], header("x", 7, b"\0\1\xff"), b"\x01x"]
)
def test_headers_that_make_no_sense_are_refused(block: bytes) -> None:
    with pytest.raises(BadStream, match="headers of an event"):
        Splitter().feed(message(b"{}", block))


def test_an_exception_and_an_error_are_told_by_their_names() -> None:
    [one] = Splitter().feed(exception("throttlingException"))
    assert one.exception == "throttlingException"
    failed = {":message-type": "error", ":error-code": "InternalFailure"}
    assert Message(failed, b"").exception == "InternalFailure"
    assert Message({":message-type": "error"}, b"").exception == "error"
    assert Message({":event-type": "chunk"}, b"").exception == ""
