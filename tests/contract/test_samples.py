"""The samples whose translation `python -m loadtests translate` measures: every way across has one, and each is told
whole, so that what is measured is the work and no early end of it."""

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.registry import BACKS, FRONTS, between
from loadtests.answers import ANSWERS, SAID, stream
from loadtests.calls import CALLS, MODEL

WAYS = [(front, back) for front in FRONTS for back in BACKS if front != back]


@pytest.mark.parametrize(("front", "back"), WAYS)
def test_a_call_and_its_whole_answer_come_across(front: str, back: str) -> None:
    way, usage, body = between(front, back), Usage(), orjson.dumps(CALLS[front])
    written = way.write(Call("chat", front, "POST", "/", body, CALLS[front], MODEL, False), Changes(MODEL))
    assert "log in since Tuesday" in written.decode()
    answer = orjson.dumps(ANSWERS[back])
    tap = way.tap(Asked(CALLS[front], usage, ident="0" * 32))
    told = tap.whole(answer) or answer
    assert SAID.strip() in told.decode()
    assert not tap.failed
    assert (usage.prompt, usage.completion) == (210, 130)


@pytest.mark.parametrize(("front", "back"), WAYS)
def test_a_stream_comes_across_to_its_end(front: str, back: str) -> None:
    way, usage = between(front, back), Usage()
    tap = way.tap(Asked(CALLS[front], usage, ident="0" * 32))
    told = b"".join(map(tap.feed, stream(back, 5))) + tap.rest()
    assert told.count(b" word") >= 5
    assert tap.finished
    assert not tap.failed
    assert (usage.prompt, usage.completion) == (210, 130)
