from collections.abc import Callable

from gateway.core.outbox import MOST, Outbox


class Transport:
    """What asyncio has, as far as an outbox asks for it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed


class Round:
    """The end of an event loop's round, when a test says so."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, act: Callable[[], None]) -> None:
        self._soon.append(act)

    def end(self) -> None:
        soon, self._soon = self._soon, []
        for act in soon:
            act()


def test_the_first_write_of_a_round_leaves_at_once_and_the_others_with_its_end_in_their_order() -> None:
    loop, one, other = Round(), Transport(), Transport()
    outbox = Outbox(loop.call_soon)
    outbox.write(one, b"a")
    outbox.write(other, b"b")
    outbox.write(one, b"c")
    assert (one.written, other.written) == ([b"a"], [])
    loop.end()
    assert (one.written, other.written) == ([b"a", b"c"], [b"b"])
    outbox.write(other, b"d")
    assert other.written == [b"b", b"d"], "the next round has a first one, too"
    loop.end()
    assert other.written == [b"b", b"d"]


def test_none_waits_for_more_than_so_many_others() -> None:
    loop, transport = Round(), Transport()
    outbox = Outbox(loop.call_soon)
    for number in range(MOST):
        outbox.write(transport, b"%d" % number)
    assert transport.written == [b"0"]
    outbox.write(transport, b"last")
    assert len(transport.written) == MOST + 1
    loop.end()
    assert len(transport.written) == MOST + 1


def test_what_waits_leaves_when_it_is_asked_to() -> None:
    loop, transport = Round(), Transport()
    outbox = Outbox(loop.call_soon)
    outbox.write(transport, b"a")
    outbox.write(transport, b"b")
    outbox.flush()
    transport.write(b"c")
    assert transport.written == [b"a", b"b", b"c"]


def test_nothing_is_written_to_one_that_has_closed_meanwhile() -> None:
    loop, gone, here = Round(), Transport(), Transport()
    outbox = Outbox(loop.call_soon)
    for transport in (here, gone, here):
        outbox.write(transport, b"x")
    gone.closed = True
    loop.end()
    assert (here.written, gone.written) == ([b"x", b"x"], [])
