"""The allowance in memory: what its memory holds. What it decides is told by tests/contract/test_allowance.py."""

from dataclasses import replace

import pytest

from gateway.core.claim import Claim, Limit, Standing
from gateway.core.meters import Meters
from gateway.state.memory import MemoryAllowance

NAMED = Limit("r", "requests", 60, 60)
FLIGHT = Limit("c", "concurrent", 1)
TOKENS = Limit("t", "tokens", 60, 60)


class Clock:
    now = 10**18  # nanoseconds

    def __call__(self) -> int:
        return self.now


def left(allowance: MemoryAllowance, limit: Limit, name: str) -> int:
    """Units of a bucket, before it is asked for one more."""
    return allowance.take([Claim(limit, name, 1)]).standings[0].remaining + 1


def looked_at(allowance: MemoryAllowance) -> None:
    """New names come: each looks at two buckets, and drops those that are full."""
    for number in range(4):
        allowance.take([Claim(FLIGHT, f"new-{number}", 1)])


def test_buckets_that_are_full_again_are_forgotten_however_many_names_come() -> None:
    clock = Clock()
    allowance = MemoryAllowance(Meters(), clock)
    for number in range(20_000):
        clock.now += 10_000_000  # a new name every 10 ms, whose bucket is full again after a second
        allowance.take([Claim(NAMED, f"name-{number}", 1)])
    assert allowance.size < 4 * 100


def test_a_bucket_in_use_is_never_forgotten() -> None:
    clock = Clock()
    allowance = MemoryAllowance(Meters(), clock)
    grant = allowance.take([Claim(FLIGHT, "kept", 1)])
    for number in range(1000):
        clock.now += 10_000_000_000
        allowance.take([Claim(NAMED, f"name-{number}", 1)])
    assert allowance.size < 10
    allowance.settle(grant, 0)
    assert left(allowance, FLIGHT, "kept") == 1


def test_a_bucket_that_is_looked_at_refills_no_faster() -> None:
    clock = Clock()
    allowance = MemoryAllowance(Meters(), clock)
    allowance.take([Claim(NAMED, "kept", 30)])
    clock.now += 10_000_000_000
    looked_at(allowance)
    assert left(allowance, NAMED, "kept") == 40


@pytest.mark.parametrize("dropped", [True, False])
def test_what_was_used_beyond_the_estimate_is_owed_from_when_it_is_told(dropped: bool) -> None:
    clock = Clock()
    allowance = MemoryAllowance(Meters(), clock)
    grant = allowance.take([Claim(TOKENS, "long", 1)])
    clock.now += 100_000_000_000
    if dropped:
        looked_at(allowance)
    allowance.settle(grant, 31)
    assert left(allowance, TOKENS, "long") == 30


def test_what_time_has_given_back_already_is_not_given_back_again() -> None:
    clock = Clock()
    allowance = MemoryAllowance(Meters(), clock)
    grant = allowance.take([Claim(TOKENS, "long", 10)])
    clock.now += 100_000_000_000
    looked_at(allowance)
    allowance.take([Claim(TOKENS, "long", 20)])
    allowance.settle(grant, 0)
    assert left(allowance, TOKENS, "long") == 40


def test_under_a_changed_rule_its_new_number_is_told() -> None:
    allowance = MemoryAllowance(Meters(), Clock())
    allowance.take([Claim(NAMED, "", 30)])
    more = replace(NAMED, limit=100)
    assert allowance.take([Claim(more, "", 1)]).standings == [Standing(more, 69, 18.6)]


def test_calls_in_flight_have_no_time_at_which_all_are_back() -> None:
    allowance = MemoryAllowance(Meters(), Clock())
    assert allowance.take([Claim(FLIGHT, "", 1)]).standings == [Standing(FLIGHT, 0, 0.0)]


async def test_it_is_never_away() -> None:
    allowance = MemoryAllowance(Meters())
    assert allowance.degraded == []
    await allowance.aclose()
