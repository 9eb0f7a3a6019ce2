"""What every allowance promises, in memory and in a real Redis, on a clock that the test turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.claim import NO_GRANT, Claim, Grant, Limit, Standing
from gateway.core.failure import LimitReached, NeverFits
from gateway.core.meters import Meters
from gateway.state import scripts
from gateway.state.allowance import Allowance
from gateway.state.memory import MemoryAllowance
from gateway.state.place import parse_url
from gateway.state.redis import RedisAllowance
from tests.redis_server import RedisServer

START = 1_800_000_000_000_000  # microseconds
DAY = 86_400


def with_turned_clock(*names: str) -> scripts.Script:
    """The scripts as they are, but for the clock (a list in Redis) and the deadline that goes by it."""
    text = scripts.load(*names).text.decode()
    turned = text.replace("redis.call('TIME')", "redis.call('LRANGE', 'clock', 0, 1)")
    assert turned != text
    turned = turned.replace("if deadline > 0", "if false")
    return scripts.Script(turned.encode(), scripts.sha_of(turned.encode()))


class House:
    """One allowance, the clock it goes by, and what it counted."""

    def __init__(self, client: "redis.Redis | None" = None) -> None:
        self.now, self.client, self.meters = START, client, Meters()
        self.allowance: Allowance = MemoryAllowance(self.meters, lambda: self.now * 1000)
        self.turn(0)

    def turn(self, seconds: float | Fraction) -> None:
        self.now += round(seconds * 1_000_000)
        if self.client is not None:
            pipeline = self.client.pipeline()
            pipeline.delete("clock")
            pipeline.rpush("clock", self.now // 1_000_000, self.now % 1_000_000)
            pipeline.execute()

    async def reserve(self, *claims: Claim, hold: float = 600) -> Grant:
        return await self.allowance.reserve(claims, hold)

    async def admitted(self, claim: Claim, tries: int) -> int:
        count = 0
        for _ in range(tries):
            with suppress(LimitReached):
                await self.reserve(claim)
                count += 1
        return count

    async def heard(self) -> None:
        """What was settled has arrived: a question behind it has its answer."""
        await self.reserve(one(Limit("other", "requests", 10**6, 1)))

    def decisions(self, rule: str) -> dict[str, float]:
        return {labels[1]: n for labels, n in self.meters.decisions.values.items() if labels[0] == rule}


@pytest.fixture(params=["memory", "redis"])
async def house(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    if request.param == "memory":
        yield House()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    for room in ("redis", "lifeline"):
        monkeypatch.setattr(f"gateway.state.{room}.load", with_turned_clock)
    for room in ("redis", "lifeline", "resp"):  # a busy machine is late, which is no matter of counts
        monkeypatch.setattr(f"gateway.state.{room}.PATIENCE", 10.0)
    with server.client() as client:
        house = House(client)
        allowance = RedisAllowance(parse_url(server.url), house.meters, lambda level, message: None)
        house.allowance = allowance
        running = asyncio.ensure_future(allowance.run())
        await connected(allowance)
        yield house
        assert not allowance.degraded, "these tests were to run in Redis"
        assert not any(house.meters.store_errors.values.values()), "no decision was to be made elsewhere"
        await allowance.aclose()
        running.cancel()
        await asyncio.wait([running])


async def connected(allowance: RedisAllowance) -> None:
    async with asyncio.timeout(5):
        while allowance.degraded:
            await asyncio.sleep(0.001)  # no event tells it: nobody else asks


def one(limit: Limit, bucket: str = "", amount: int = 1) -> Claim:
    return Claim(limit, bucket, amount)


REQUESTS = Limit("per-key", "requests", 600, 60)
TOKENS = Limit("free-tokens", "tokens", 20_000, 60)
AT_ONCE = Limit("at-once", "concurrent", 2)


async def test_a_limit_admits_exactly_its_number(house: House) -> None:
    limit = Limit("daily", "requests", 1000, DAY)

    async def call() -> bool:
        try:
            await house.reserve(one(limit))
        except LimitReached:
            return False
        return True

    admitted = 0
    for _ in range(15):
        admitted += sum(await asyncio.gather(*(call() for _ in range(100))))
    assert admitted == 1000
    assert house.decisions("daily") == {"allowed": 1000, "refused": 500}


async def test_nothing_to_claim_is_granted_at_no_cost(house: House) -> None:
    assert await house.reserve() is NO_GRANT
    house.allowance.settle(NO_GRANT, 10)
    house.allowance.release(NO_GRANT)


async def test_all_claims_of_a_call_or_none(house: House) -> None:
    few = Limit("few", "requests", 1, DAY)
    many = Limit("many", "tokens", 100, DAY)
    await house.reserve(one(many, amount=10), one(few))
    for _ in range(3):
        with pytest.raises(LimitReached) as caught:
            await house.reserve(one(many, amount=10), one(few), one(AT_ONCE))
        assert caught.value.rule == "few"
    grant = await house.reserve(one(many, amount=10), one(AT_ONCE))
    assert [standing.remaining for standing in grant.standings] == [80, 1]
    assert house.decisions("many") == {"allowed": 2}


async def test_a_bucket_refills_evenly(house: House) -> None:
    assert await house.admitted(one(REQUESTS), 700) == 600
    house.turn(0.999999)
    assert await house.admitted(one(REQUESTS), 20) == 9
    house.turn(0.000001)
    assert await house.admitted(one(REQUESTS), 20) == 1
    house.turn(1000)
    assert await house.admitted(one(REQUESTS), 700) == 600


async def test_a_retry_at_the_told_moment_succeeds_and_not_before(house: House) -> None:
    limit = Limit("odd", "tokens", 7, 60)
    await house.reserve(one(limit, amount=6))
    with pytest.raises(LimitReached) as caught:
        await house.reserve(one(limit, amount=5))
    wait = caught.value.retry_after
    assert wait is not None
    house.turn(wait - 0.000001)
    with pytest.raises(LimitReached):
        await house.reserve(one(limit, amount=5))
    house.turn(0.000001)
    await house.reserve(one(limit, amount=5))


async def test_the_rule_with_the_longest_wait_is_told(house: House) -> None:
    slow, quick = Limit("slow", "requests", 1, DAY), Limit("quick", "requests", 1, 1)
    await house.reserve(one(slow), one(quick))
    with pytest.raises(LimitReached) as caught:
        await house.reserve(one(quick), one(slow))
    assert caught.value.rule == "slow"
    assert house.decisions("quick") == {"allowed": 1, "refused": 1}


async def test_tokens_are_settled_to_what_was_used(house: House) -> None:
    grant = await house.reserve(one(TOKENS, amount=5000))
    assert grant.standings[0].remaining == 15_000
    house.allowance.settle(grant, 1200)
    grant = await house.reserve(one(TOKENS, amount=1))
    assert grant.standings[0].remaining == 18_799


async def test_a_request_that_was_served_stays_counted(house: House) -> None:
    grant = await house.reserve(one(REQUESTS), one(AT_ONCE))
    house.allowance.settle(grant, 0)
    await house.heard()
    grant = await house.reserve(one(REQUESTS), one(AT_ONCE))
    assert [standing.remaining for standing in grant.standings] == [598, 1]


async def test_a_bucket_may_go_negative_and_pays_its_debt_first(house: House) -> None:
    grant = await house.reserve(one(TOKENS, amount=1000))
    house.allowance.settle(grant, 50_000)
    with pytest.raises(LimitReached) as caught:
        await house.reserve(one(TOKENS, amount=1))
    assert caught.value.retry_after == pytest.approx((30_000 + 1) / 20_000 * 60, abs=1e-6)
    house.turn(90)
    with pytest.raises(LimitReached):
        await house.reserve(one(TOKENS, amount=1))
    house.turn(0.003)
    assert (await house.reserve(one(TOKENS, amount=1))).standings[0].remaining == 0


async def test_settling_twice_counts_once(house: House) -> None:
    grant = await house.reserve(one(TOKENS, amount=1000), one(AT_ONCE))
    for _ in range(3):
        house.allowance.settle(grant, 400)
        house.allowance.release(grant)
    await house.heard()
    await house.reserve(one(AT_ONCE))
    grant = await house.reserve(one(TOKENS, amount=1), one(AT_ONCE))
    assert [standing.remaining for standing in grant.standings] == [19_599, 0]


async def test_release_gives_everything_back(house: House) -> None:
    grant = await house.reserve(one(REQUESTS), one(TOKENS, amount=1000), one(AT_ONCE))
    house.allowance.release(grant)
    house.allowance.release(grant)
    await house.heard()
    grant = await house.reserve(one(REQUESTS), one(TOKENS, amount=1), one(AT_ONCE))
    assert [standing.remaining for standing in grant.standings] == [599, 19_999, 1]


async def test_calls_in_flight_are_counted_until_they_settle(house: House) -> None:
    first, _ = await house.reserve(one(AT_ONCE)), await house.reserve(one(AT_ONCE))
    with pytest.raises(LimitReached) as caught:
        await house.reserve(one(AT_ONCE))
    assert caught.value.retry_after == 1.0
    assert str(caught.value) == 'rule "at-once": 2 calls at a time are in flight; try again in 1 s'
    house.turn(59)
    with pytest.raises(LimitReached):
        await house.reserve(one(AT_ONCE))
    house.allowance.settle(first, 0)
    await house.reserve(one(AT_ONCE))


async def test_refusals_say_rule_unit_and_numbers(house: House) -> None:
    await house.admitted(one(REQUESTS), 600)
    house.turn(0.05)
    with pytest.raises(LimitReached) as caught:
        await house.reserve(one(REQUESTS, amount=35))
    expected = 'rule "per-key": 600 requests per minute are used up; try again in 4 s'
    assert str(caught.value) == expected
    assert dict(caught.value.headers) == {b"retry-after": b"4"}
    await house.reserve(one(TOKENS, amount=19_000))
    with pytest.raises(LimitReached) as caught:
        await house.reserve(one(TOKENS, amount=1500))
    assert str(caught.value) == (
        'rule "free-tokens": 1500 tokens do not fit into the 1000 left of 20000 tokens per minute; '
        "try again in 2 s"
    )


async def test_what_can_never_fit_is_a_fault_of_the_call(house: House) -> None:
    with pytest.raises(NeverFits) as caught:
        await house.reserve(one(TOKENS, amount=10**30), one(REQUESTS))
    assert caught.value.rule == "free-tokens"
    assert (await house.reserve(one(REQUESTS))).standings[0].remaining == 599


async def test_shadow_rules_count_but_never_refuse(house: House) -> None:
    shadow = Limit("trial", "requests", 2, DAY, mode="shadow")
    flight = Limit("trial-flight", "concurrent", 1, mode="shadow")
    grants = [await house.reserve(one(shadow), one(flight), one(REQUESTS)) for _ in range(5)]
    assert house.decisions("trial") == {"allowed": 2, "shadow_refused": 3}
    assert house.decisions("trial-flight") == {"allowed": 1, "shadow_refused": 4}
    assert [len(grant.standings) for grant in grants] == [1] * 5, "headers tell of rules that can refuse"
    for grant in grants:
        house.allowance.settle(grant, 0)
    await house.heard()
    await house.reserve(one(flight))
    assert house.decisions("trial-flight")["allowed"] == 2


async def test_standings_fall_with_each_call_and_tell_when_the_bucket_is_full(house: House) -> None:
    seen = [(await house.reserve(one(REQUESTS))).standings[0] for _ in range(5)]
    assert [standing.remaining for standing in seen] == [599, 598, 597, 596, 595]
    assert [standing.reset for standing in seen] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    house.turn(seen[-1].reset)
    assert (await house.reserve(one(REQUESTS))).standings[0].remaining == 599


async def test_a_refusal_tells_how_its_rule_stands_with_nothing_taken(house: House) -> None:
    many, few = Limit("many", "requests", 10, DAY), Limit("few", "tokens", 100, DAY)
    await house.reserve(one(many), one(few, amount=70))
    for _ in range(2):
        with pytest.raises(LimitReached) as caught:
            await house.reserve(one(many), one(few, amount=31))
        told = caught.value.standing
        assert told is not None
        assert (told.limit, told.remaining) == (few, 30)
        assert told.reset == pytest.approx(0.7 * DAY, rel=0.001)


async def test_names_of_callers_open_buckets_of_their_own_and_nothing_else(house: House) -> None:
    limit = Limit("r}{:*", "requests", 1, DAY)
    names = [
        "",
        "a",
        "a\x1f",
        "a\x1fb",
        "{x}",
        "*",
        "k\r\nFLUSHALL\r\n",
        "\0",
        "é",
        "\ud800",
        "x" * 5000,
        "a b",
    ]
    for name in names:
        await house.reserve(one(limit, name))
    for name in names:
        with pytest.raises(LimitReached):
            await house.reserve(one(limit, name))


async def test_a_changed_limit_keeps_what_was_used(house: House) -> None:
    old, new = Limit("r", "requests", 10, 60), Limit("r", "requests", 20, 3600)
    await house.admitted(one(old), 9)
    assert (await house.reserve(one(new))).standings[0].remaining == 10
    assert (await house.reserve(one(Limit("r", "requests", 12, 60)))).standings[0].remaining == 1


@pytest.mark.parametrize("per", [1, 60, 3600, DAY])
async def test_large_numbers_stay_exact(house: House, per: int) -> None:
    limit = Limit("vast", "tokens", 999_999_999_989, per)
    grant = await house.reserve(one(limit, amount=999_999_999_989))
    assert grant.standings[0] == Standing(limit, 0, per)
    house.turn(0.000007)
    back = 999_999_999_989 * 7 // (per * 1_000_000)
    with pytest.raises(LimitReached):
        await house.reserve(one(limit, amount=back + 1))
    await house.reserve(one(limit, amount=back))


async def test_one_a_day_is_one_a_day(house: House) -> None:
    limit = Limit("rare", "requests", 1, DAY)
    await house.reserve(one(limit))
    house.turn(DAY - 0.000001)
    with pytest.raises(LimitReached):
        await house.reserve(one(limit))
    house.turn(0.000001)
    await house.reserve(one(limit))


async def test_absurd_usage_does_no_harm(house: House) -> None:
    limit = Limit("r", "tokens", 100, 1)
    house.allowance.settle(await house.reserve(one(limit, amount=10)), -(10**40))
    assert (await house.reserve(one(limit, amount=0))).standings[0].remaining == 100
    house.allowance.settle(await house.reserve(one(limit, amount=10)), 10**40)
    with pytest.raises(LimitReached):
        await house.reserve(one(limit))


class Exactly:
    """The oracle: a bucket in fractions."""

    def __init__(self, limit: int, per: int) -> None:
        self.limit, self.level = Fraction(limit), Fraction(limit)
        self.pace = Fraction(limit, per * 1_000_000)

    def pass_by(self, microseconds: int) -> None:
        self.level = min(self.limit, self.level + microseconds * self.pace)

    def take(self, amount: int) -> bool:
        if self.level < amount:
            return False
        self.level -= amount
        return True

    def settle(self, difference: int) -> None:
        self.level = min(self.limit, self.level + difference)


LIMITS = st.one_of(st.integers(1, 50), st.integers(1, 10**12))
PERS = st.sampled_from([1, 60, 3600, DAY])
STEPS = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 3), st.integers(0, 2 * 10**6), st.integers(0, 4 * DAY * 10**6)
        ),  # elapsed, us
        st.fractions(0, 1),  # amount, as part of the limit
        st.one_of(st.none(), st.fractions(0, 2)),  # tokens used, as part of the amount
    ),
    max_size=12,
)


def play(limit: int, per: int, steps: Any, store: "Any") -> None:
    oracle = Exactly(limit, per)
    for number, (elapsed, part, used) in enumerate(steps):
        oracle.pass_by(elapsed)
        amount = int(part * limit)
        fits, left = store.take(elapsed, amount, number)
        assert fits == oracle.take(amount)
        assert left == max(0, oracle.level // 1)
        if fits and used is not None:
            tokens = int(used * amount)
            store.settle(amount, tokens, number)
            oracle.settle(amount - tokens)


class InMemory:
    def __init__(self, limit: int, per: int) -> None:
        self.limit, self.now = Limit("r", "tokens", limit, per), START
        self.allowance = MemoryAllowance(Meters(), lambda: self.now * 1000)
        self.grants: dict[int, Grant] = {}

    def take(self, elapsed: int, amount: int, number: int) -> tuple[bool, int]:
        self.now += elapsed
        try:
            grant = self.grants[number] = self.allowance.take([one(self.limit, amount=amount)])
        except LimitReached:
            return False, self.left()
        return True, grant.standings[0].remaining

    def left(self) -> int:
        try:
            return self.allowance.take([one(self.limit, amount=0)]).standings[0].remaining
        except LimitReached:
            return 0

    def settle(self, amount: int, tokens: int, number: int) -> None:
        self.allowance.settle(self.grants[number], tokens)


class InLua:
    def __init__(self, limit: int, per: int, client: "redis.Redis") -> None:
        self.limit, self.per, self.client, self.now = limit, per * 1_000_000, client, START
        client.delete("b", "b:open")
        self.reserve = with_turned_clock("bucket", "reserve").text.decode()
        self.settling = with_turned_clock("bucket", "settle").text.decode()

    def take(self, elapsed: int, amount: int, number: int) -> tuple[bool, int]:
        self.now += elapsed
        self.client.delete("clock")
        self.client.rpush("clock", self.now // 1_000_000, self.now % 1_000_000)
        claim = (self.limit, self.per, amount, "e", "h")
        answer: Any = self.client.eval(self.reserve, 2, "b", "b:open", number, 10**15, 0, *claim)
        return answer[2] == 1, max(0, self.limit - answer[3])

    def settle(self, amount: int, tokens: int, number: int) -> None:
        change = (self.limit, self.per, amount, tokens - amount, "h")
        self.client.eval(self.settling, 2, "b", "b:open", number, *change)


@given(LIMITS, PERS, STEPS)
def test_memory_agrees_with_exact_fractions(limit: int, per: int, steps: Any) -> None:
    play(limit, per, steps, InMemory(limit, per))


# Over a second: each step is a round trip to a real Redis.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, PERS, STEPS)
def test_redis_agrees_with_exact_fractions(
    redis_server: RedisServer, limit: int, per: int, steps: Any
) -> None:
    with redis_server.client() as client:
        play(limit, per, steps, InLua(limit, per, client))


@given(LIMITS, PERS, st.lists(st.tuples(st.integers(0, 10**8), st.fractions(0, 1)), max_size=30))
def test_no_span_of_time_admits_more_than_its_share(limit: int, per: int, arrivals: Any) -> None:
    store, admitted = InMemory(limit, per), []
    for elapsed, part in arrivals:
        fits, _ = store.take(elapsed, int(part * limit), 0)
        if fits:
            admitted.append((store.now, int(part * limit)))
    for first, (begin, _) in enumerate(admitted):
        total = 0
        for end, amount in admitted[first:]:
            total += amount
            assert total <= limit * (1 + Fraction(end - begin, per * 1_000_000))
