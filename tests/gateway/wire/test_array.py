import pytest

from gateway.wire import array
from gateway.wire.array import ArraySplitter
from gateway.wire.sse import EventTooLarge

TOLD = b'[{"a": "}]\\\\\\"{"}\n,\r\n{"b": [{"c": []}]}]\n'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_whole_elements_pass_whatever_the_chunks(size: int) -> None:
    splitter = ArraySplitter()
    came = [splitter.feed(TOLD[at : at + size]) for at in range(0, len(TOLD), size)]
    whole = [block for block in came if block]
    assert b"".join(whole) + splitter.rest() == TOLD
    assert splitter.rest() == b"\n"
    assert splitter.ended
    assert all(block.endswith((b"}", b"]")) for block in whole)


def test_an_array_has_not_ended_before_its_own_bracket() -> None:
    splitter = ArraySplitter()
    assert (splitter.feed(b'[["]"], {"a": []}'), splitter.ended) == (b'[["]"], {"a": []}', False)
    assert (splitter.feed(b" ]\n{}"), splitter.ended) == (b" ]", True)
    assert (splitter.feed(b"[{}]"), splitter.rest()) == (b"", b"\n{}[{}]")


def test_an_element_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array, "MOST_EVENT", 8)
    with pytest.raises(EventTooLarge):
        ArraySplitter().feed(b'[{"a": "bcd')
