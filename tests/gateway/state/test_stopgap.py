"""What each rule does while Redis is gone, mute, hanging or slow, and that all is as before when it is back; with a
real Redis behind a line that a test can cut, stop or slow down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.claim import Claim, Limit
from gateway.core.failure import LimitReached, StoreGone
from gateway.core.meters import Meters
from gateway.state import stopgap
from gateway.state.place import parse_url
from gateway.state.redis import RedisAllowance
from gateway.state.resp import PATIENCE
from gateway.state.scripts import Script, load, sha_of
from gateway.state.stopgap import Stopgap
from tests.gateway.state.sharing import Line, until
from tests.redis_server import RedisServer

DAY = 86_400
PROMISED = 0.05  # seconds until a call without Redis is decided
MODES: tuple[Any, ...] = ("local_share", "allow", "refuse")
FAULTS = ("gone", "mute", "hanging", "slow")


class Process:
    """One gateway process, as far as its allowance goes."""

    def __init__(self, url: str) -> None:
        self.meters = Meters()
        self.allowance = RedisAllowance(parse_url(url), self.meters, lambda level, text: None)
        self.spent: list[float] = []

    async def outcome(self, claim: Claim) -> str:
        """What becomes of one call, and how long it took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self.allowance.reserve([claim], 600)
            return "granted"
        except LimitReached:
            return "limited"
        except StoreGone:
            return "refused"
        finally:
            self.spent.append(clock() - began)

    def errors(self, mode: str) -> float:
        return self.meters.store_errors.values.get((mode,), 0)


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    one = Process(url)
    running = asyncio.ensure_future(one.allowance.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.wait([running])
        await one.allowance.aclose()


@pytest.fixture(autouse=True)
def _quick_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.state.lifeline.BEAT", 0.05)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
async def test_every_rule_is_decided_in_time_without_redis_and_by_redis_afterwards(
    redis_server: RedisServer, tmp_path: Path, mode: Any, fault: str
) -> None:
    limit = Limit("r", "requests", 6, DAY, on_store_error=mode)
    async with Line(redis_server.socket, tmp_path / "line") as line, process(line.url) as one:
        await until(lambda: not one.allowance.degraded)
        if fault == "gone":
            await line.cut()
        elif fault == "mute":  # it takes new connections, and says nothing to anyone
            line.delay = None
            line.hang_up()
        elif fault == "hanging":
            line.delay = None
        else:
            line.delay = 4 * PATIENCE
        if fault in ("gone", "mute"):
            await until(lambda: bool(one.allowance.degraded))
        outcomes = [await one.outcome(Claim(limit, "", 1)) for _ in range(8)]
        expected = {"local_share": ["granted"] * 6 + ["limited"] * 2, "allow": ["granted"] * 8}
        assert outcomes == expected.get(mode, ["refused"] * 8)
        assert one.errors(mode) == 8
        assert min(one.spent) <= PROMISED
        assert max(one.spent) < 10 * PROMISED, "with room for a machine that is busy"
        await line.mend()
        await until(lambda: not one.allowance.degraded)
        fresh = Limit("after", "requests", 1, DAY, on_store_error=mode)
        errors = one.errors(mode)
        async with process(f"unix://{redis_server.socket}") as other:
            assert await one.outcome(Claim(fresh, "", 1)) == "granted"
            await until(lambda: not other.allowance.degraded)
            assert await other.outcome(Claim(fresh, "", 1)) == "limited", "the limit is shared again"
        assert one.errors(mode) == errors


@pytest.fixture
def _moved_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts ask Redis for the time; what they are told is moved by what lies in `moved`, in microseconds."""
    told, moved = b"time[1] * 1000000 + time[2]", b" + (tonumber(redis.call('GET', 'moved') or '0'))"

    def changed(*names: str) -> Script:
        text = load(*names).text
        assert told in text
        text = text.replace(told, told + moved)
        return Script(text, sha_of(text))

    monkeypatch.setattr("gateway.state.redis.load", changed)
    monkeypatch.setattr("gateway.state.lifeline.load", changed)


HOUR = 3600 * 1_000_000


@pytest.mark.usefixtures("_moved_clock")
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_of_redis_that_jumps_forgets_no_use_and_costs_one_call_at_most(
    redis_server: RedisServer, hours: int
) -> None:
    limit = Limit("r", "requests", 2, DAY, on_store_error="allow")
    async with process(redis_server.url) as one:
        await until(lambda: not one.allowance.degraded)
        assert await one.outcome(Claim(limit, "", 1)) == "granted"
        with redis_server.client() as client:
            client.set("moved", hours * HOUR)
        outcomes = [await one.outcome(Claim(limit, "", 1)) for _ in range(4)]
        # The first call after a jump forward looks to Redis like one that nobody waits for any more.
        late = int(one.errors("allow"))
        assert late <= (hours > 0)
        assert outcomes == ["granted"] * (1 + late) + ["limited"] * (3 - late)


@pytest.mark.usefixtures("_moved_clock")
async def test_a_bucket_used_up_before_the_clock_was_set_back_is_refilled_all_the_same(
    redis_server: RedisServer,
) -> None:
    limit = Limit("r", "requests", 1, 60, on_store_error="refuse")
    async with process(redis_server.url) as one:
        await until(lambda: not one.allowance.degraded)
        assert await one.outcome(Claim(limit, "", 1)) == "granted"
        with redis_server.client() as client:
            client.set("moved", -HOUR)
            assert await one.outcome(Claim(limit, "", 1)) == "limited"
            client.set("moved", -HOUR + 61 * 1_000_000)
        outcomes = [await one.outcome(Claim(limit, "", 1)) for _ in range(2)]
        assert "granted" in outcomes, "the first may look too late to a clock that jumps"


@pytest.mark.parametrize(("used", "left"), [(4, 0), (3, 1), (1, 4)])
async def test_an_outage_fills_no_bucket_that_was_more_than_half_used(
    redis_server: RedisServer, tmp_path: Path, used: int, left: int
) -> None:
    limit = Limit("r", "requests", 4, DAY)
    async with Line(redis_server.socket, tmp_path / "line") as line, process(line.url) as one:
        await until(lambda: not one.allowance.degraded)
        for _ in range(used):
            assert await one.outcome(Claim(limit, "mine", 1)) == "granted"
        await line.cut()
        await until(lambda: bool(one.allowance.degraded))
        outcomes = [await one.outcome(Claim(limit, "mine", 1)) for _ in range(5)]
        assert outcomes == ["granted"] * left + ["limited"] * (5 - left)
        assert await one.outcome(Claim(limit, "another's", 1)) == "granted"


async def test_what_was_given_back_before_an_outage_is_not_held_against_a_share(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    limit = Limit("r", "tokens", 100, DAY)
    async with Line(redis_server.socket, tmp_path / "line") as line, process(line.url) as one:
        await until(lambda: not one.allowance.degraded)
        grant = await one.allowance.reserve([Claim(limit, "mine", 90)], 600)
        one.allowance.settle(grant, 5)
        async with asyncio.timeout(10):
            while one.allowance._stopgap.heard:
                assert await one.outcome(Claim(limit, "mine", 1)) == "granted"
        await line.cut()
        await until(lambda: bool(one.allowance.degraded))
        assert await one.outcome(Claim(limit, "mine", 90)) == "granted"


async def test_calls_in_flight_that_were_heard_of_keep_nobody_out_for_an_outage(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    limit = Limit("r", "concurrent", 1, 0)
    async with Line(redis_server.socket, tmp_path / "line") as line, process(line.url) as one:
        await until(lambda: not one.allowance.degraded)
        assert await one.outcome(Claim(limit, "", 1)) == "granted"
        assert await one.outcome(Claim(limit, "", 1)) == "limited"
        await line.cut()
        await until(lambda: bool(one.allowance.degraded))
        assert await one.outcome(Claim(limit, "", 1)) == "granted"


def test_what_was_heard_ages_and_is_forgotten_when_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopgap, "MOST_HEARD", 1)
    now = 0
    here = Stopgap(Meters(), lambda: now)
    hour = Limit("r", "requests", 60, 3600)
    here.hear(Claim(hour, "a", 1), 60)
    now = 10 * 60 * 10**9
    here.take([Claim(hour, "a", 10)], 1)
    with pytest.raises(LimitReached):
        here.take([Claim(hour, "a", 1)], 1)
    here.hear(Claim(hour, "b", 1), 60)
    here.hear(Claim(hour, "c", 1), 60)
    here.take([Claim(hour, "b", 60)], 1)
