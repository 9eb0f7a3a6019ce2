"""What waits to be said to Redis: bounded, and said again only where that counts once."""

import asyncio
from typing import Any, cast

import hiredis
import pytest

from gateway.core.tally import Counter
from gateway.state import settlements
from gateway.state.lifeline import Lifeline
from gateway.state.resp import RedisAway
from gateway.state.scripts import Script
from gateway.state.settlements import Settlement, Settlements


class Line:
    """A lifeline as far as settlements use it: what is said lies here until the test answers."""

    def __init__(self) -> None:
        self.connected = True
        self.said: list[tuple[Any, bool]] = []
        self.replies: list[asyncio.Future[Any]] = []

    def tell(self, script: Script, arguments: Any, *, whole: bool) -> "asyncio.Future[Any]":
        self.said.append((arguments, whole))
        self.replies.append(asyncio.get_running_loop().create_future())
        return self.replies[-1]


class Desk:
    def __init__(self) -> None:
        self.line, self.errors = Line(), Counter("errors", "", ("mode",))
        self.all = Settlements(cast(Lifeline, self.line), Script(b"", ""), self.errors)

    async def answer(self, error: Exception | None = None) -> None:
        reply = self.line.replies.pop(0)
        if error is None:
            reply.set_result(1)
        else:
            reply.set_exception(error)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_what_was_not_heard_is_said_again_as_far_as_that_is_safe(desk: Desk) -> None:
    desk.all.add(Settlement(("whole",), ("held",)))
    desk.all.add(Settlement(("requests only",), None))
    desk.line.connected = False
    await desk.answer(RedisAway())
    await desk.answer(RedisAway())
    desk.line.connected = True
    desk.all.send()
    assert [said for said, _ in desk.line.said] == [("whole",), ("requests only",), ("held",)]
    await desk.answer()
    assert desk.errors.values == {}


async def test_a_script_redis_lost_is_said_in_full(desk: Desk) -> None:
    desk.all.add(Settlement(("a",), ("a",)))
    await desk.answer(hiredis.ReplyError("NOSCRIPT No matching script"))
    assert desk.line.said == [(("a",), False), (("a",), True)]
    await desk.answer(hiredis.ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert desk.errors.values == {("settlement_dropped",): 1}


@pytest.mark.parametrize(
    "why",
    [
        "READONLY You can't write against a read only replica.",
        "NOREPLICAS Not enough good replicas to write.",
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script.",
        "MOVED 11562 10.0.0.7:6379",
        "ERR Error running script (call to f_1): @user_script:63: -OOM command not allowed when used memory > x.",
    ],
)
async def test_what_is_refused_for_now_is_said_again_at_the_next_sign_of_life(desk: Desk, why: str) -> None:
    desk.all.add(Settlement(("a", "request"), ("a",)))
    await desk.answer(hiredis.ReplyError(why))
    desk.all.add(Settlement(("b",), None))
    assert [said for said, _ in desk.line.said] == [("a", "request")], "nothing more until then"
    desk.all.resume()
    assert [said for said, _ in desk.line.said[1:]] == [("a", "request"), ("b",)]
    await desk.answer()
    await desk.answer()
    assert desk.errors.values == {}


async def test_a_script_redis_lost_with_the_connection_is_said_over_the_next(desk: Desk) -> None:
    desk.all.add(Settlement(("a",), None))
    desk.line.connected = False
    await desk.answer(hiredis.ReplyError("NOSCRIPT No matching script"))
    desk.line.connected = True
    desk.all.resume()
    assert desk.line.said == [(("a",), False), (("a",), False)]


async def test_only_so_many_are_on_the_way_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlements, "MOST_ON_THE_WAY", 2)
    for number in range(4):
        desk.all.add(Settlement((number,), None))
    assert len(desk.line.said) == 2
    await desk.answer()
    assert len(desk.line.said) == 3


async def test_the_queue_is_bounded_and_what_it_drops_is_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlements, "MOST_QUEUED", 3)
    desk.line.connected = False
    for number in range(5):
        desk.all.add(Settlement((number,), None))
    assert desk.errors.values == {("settlement_dropped",): 2}
    desk.line.connected = True
    desk.all.send()
    assert [said for said, _ in desk.line.said] == [(2,), (3,), (4,)]


async def test_closing_waits_for_the_last_words_but_not_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.all.add(Settlement(("a",), None))
    closing = asyncio.ensure_future(desk.all.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    await desk.answer(hiredis.ReplyError("LOADING Redis is loading the dataset in memory"))
    await closing
    closing = asyncio.ensure_future(desk.all.aclose())
    await asyncio.sleep(0)
    assert desk.line.said == [(("a",), False), (("a",), False)], "tried once more"
    await desk.answer()
    await closing
    monkeypatch.setattr(settlements, "LAST_WORDS", 0.01)
    desk.all.add(Settlement(("b",), None))
    await desk.all.aclose()
