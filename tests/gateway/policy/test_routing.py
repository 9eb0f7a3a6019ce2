import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.registry import STRATEGIES
from gateway.policy.routing import Fastest, LeastBusy, Priority, Weighted
from tests.gateway.policy.calls import exchange, target


class Known:
    """Health as a table of latencies in seconds and of calls in flight."""

    def __init__(self, latencies: dict[str, float] | None = None, busy: dict[str, int] | None = None) -> None:
        self._latencies, self._busy = latencies or {}, busy or {}

    def latency(self, asked: str) -> float | None:
        return self._latencies.get(asked)

    def in_flight(self, asked: str) -> int:
        return self._busy.get(asked, 0)


A, B, C = target("a/m"), target("b/m"), target("c/m")


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(seed=st.integers(), count=st.integers(1, 6))
def test_no_strategy_drops_or_invents_a_target(name: str, seed: int, count: int) -> None:
    targets = [target(f"p{place}/m", place + 1) for place in range(count)]
    health = Known({"p0/m": 0.5, "p2/m": 0.1}, {"p1/m": 3})
    ordered = STRATEGIES[name].order(exchange(), targets, health, random.Random(seed).random)
    assert sorted(one.name for one in ordered) == sorted(one.name for one in targets)


def test_the_registry_is_sorted() -> None:
    assert list(STRATEGIES) == sorted(STRATEGIES)


def test_priority_keeps_the_order_of_the_file() -> None:
    assert Priority().order(exchange(), [B, A, C], Known(), lambda: 0.0) == [B, A, C]


def test_weighted_gives_each_its_share() -> None:
    dice = random.Random(7).random
    targets = [target("big/m", 6), target("mid/m", 3), target("low/m", 1)]
    first = Counter(Weighted().order(exchange(), targets, Known(), dice)[0].name for _ in range(20_000))
    assert first["big/m"] / 20_000 == pytest.approx(0.6, abs=0.02)
    assert first["low/m"] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_weighted_with_an_undecided_dice_puts_the_heaviest_first() -> None:
    targets = [target("low/m", 1), target("big/m", 6)]
    assert [one.name for one in Weighted().order(exchange(), targets, Known(), lambda: 0.5)] == [
        "big/m",
        "low/m",
    ]


def test_fastest_goes_by_latency_and_explores_the_unknown_first() -> None:
    health = Known({"a/m": 0.9, "b/m": 0.1})
    assert Fastest().order(exchange(), [A, B], health, lambda: 0.5) == [B, A]
    assert Fastest().order(exchange(), [A, B, C], health, lambda: 0.5) == [C, B, A]


def test_fastest_shares_the_load_among_equals() -> None:
    dice = random.Random(3).random
    health = Known({"a/m": 0.2, "b/m": 0.2})
    first = Counter(Fastest().order(exchange(), [A, B], health, dice)[0].name for _ in range(2000))
    assert min(first.values()) > 800


def test_fastest_measures_a_slow_target_again_now_and_then() -> None:
    dice = random.Random(5).random
    health = Known({"a/m": 5.0, "b/m": 0.1, "c/m": 9.0})
    first = Counter(Fastest().order(exchange(), [A, B, C], health, dice)[0].name for _ in range(5000))
    assert 10 < first["a/m"] < 150
    assert 10 < first["c/m"] < 150


def test_least_busy_goes_by_calls_in_flight_and_the_order_decides_between_equals() -> None:
    health = Known(busy={"a/m": 2, "b/m": 1, "c/m": 1})
    assert LeastBusy().order(exchange(), [A, B, C], health, lambda: 0.5) == [B, C, A]


def test_under_a_glob_it_is_the_asked_model_that_is_fast_or_busy() -> None:
    one, other = target("a/*"), target("b/*")
    health = Known({"a/x": 0.1, "b/x": 0.9, "a/y": 0.9, "b/y": 0.1}, {"a/y": 1})
    for strategy in (Fastest(), LeastBusy()):
        first = [
            strategy.order(exchange(model=model), [one, other], health, lambda: 0.5)[0]
            for model in ("x", "y")
        ]
        assert first == [one, other]
