"""Strangers' grammars are tried in a process that may be killed: none costs the server its time or its memory."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("llguidance", reason="llguidance is not installed: make .make/local")

from local_backend import trial
from local_backend.config import BUNDLED
from local_backend.constraint import alone, of_regex, of_schema
from local_backend.trial import Trial

# Counting by such a number takes a state for each remainder: minutes, and gigabytes.
COSTLY = alone(of_schema({"type": "integer", "multipleOf": 99999989}))
DEEP: dict[str, object] = {"type": "null"}
for _ in range(400):
    DEEP = {"type": "array", "items": DEEP}


@pytest.fixture
async def judge() -> AsyncIterator[Trial]:
    one = Trial(BUNDLED)
    try:
        yield one
    finally:
        await one.close()


async def test_one_that_costs_too_much_is_given_up_and_the_next_is_tried(
    judge: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.5)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    fault = await judge.fault(COSTLY)
    ticking.cancel()
    assert "takes more than" in fault
    assert ticks > 20, "the loop goes on meanwhile"
    assert await judge.fault(alone(of_schema({"type": "integer"}))) == ""
    assert await judge.fault(COSTLY) == fault, "what has been tried is known"


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (alone(of_regex("a" * trial.LARGEST)), "larger than"),
        (alone(of_schema(DEEP)), "recursion"),
        (alone(of_regex("(" * 5000 + ")" * 5000)), "regex"),
        (json.dumps({"grammars": [{"lark_grammar": "start: " + "(" * 5000}]}), "nested"),
        ("nonsense", "Expected"),
    ],
)
async def test_what_is_too_large_or_deep_says_so(judge: Trial, grammar: str, reason: str) -> None:
    assert reason in await judge.fault(grammar)


async def test_one_that_takes_too_much_memory_is_given_up(
    judge: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 60.0)
    monkeypatch.setattr(trial, "MEMORY", 48 << 20)
    assert "too much memory" in await judge.fault(COSTLY)
    assert await judge.fault(alone(of_schema({"type": "integer"}))) == ""


async def test_a_call_that_is_given_up_leaves_no_answer_behind(judge: Trial) -> None:
    assert "frob" in await judge.fault(alone(of_schema({"type": "frob"})))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await judge.fault(COSTLY)
    assert await judge.fault(alone(of_schema({"type": "integer"}))) == ""
