"""The allowance in memory: what its memory holds. What it decides is told by tests/contract/test_allowance.py."""

from gateway.core.claim import Claim, Limit
from gateway.core.meters import Meters
from gateway.state.memory import MemoryAllowance

NAMED = Limit("r", "requests", 60, 60)
FLIGHT = Limit("c", "concurrent", 1)


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


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
    allowance.take([Claim(FLIGHT, "kept", 1)])


async def test_it_is_never_away() -> None:
    allowance = MemoryAllowance(Meters())
    assert allowance.degraded == []
    await allowance.aclose()
