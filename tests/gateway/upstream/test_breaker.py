from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.upstream.breaker import (
    CONSECUTIVE,
    ENOUGH,
    FIRST_REST,
    LONGEST_REST,
    RAMP,
    WINDOW,
    Breaker,
    RetryBudgets,
)

TARGET = "openai/gpt"


class Clock:
    def __init__(self) -> None:
        self.now, self.roll = 1000.0, 0.5

    def __call__(self) -> float:
        return self.now

    def dice(self) -> float:
        return self.roll


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, clock.dice)


def seen(breaker: Breaker, target: str = TARGET) -> Any:
    return next(row for row in breaker.report() if row["target"] == target)


def fails(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.begin(TARGET)
        breaker.fail(TARGET)


def succeeds(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.begin(TARGET)
        breaker.succeed(TARGET, 0.1)
        breaker.leave(TARGET)


def is_cut(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.begin(TARGET)
        breaker.succeed(TARGET, 0.1)
        breaker.leave(TARGET, cut=True)


def opened(breaker: Breaker) -> None:
    fails(breaker, CONSECUTIVE)
    assert not breaker.usable(TARGET)


def test_failures_in_a_row_open_the_circuit(breaker: Breaker) -> None:
    fails(breaker, CONSECUTIVE - 1)
    succeeds(breaker)
    fails(breaker, CONSECUTIVE - 1)
    assert breaker.usable(TARGET)
    fails(breaker)
    assert not breaker.usable(TARGET)
    assert not breaker.begin(TARGET)
    assert seen(breaker)["circuit"] == "open"
    assert breaker.states() == [((TARGET,), 2.0)]


def test_a_high_share_of_failures_opens_the_circuit(breaker: Breaker) -> None:
    for _ in range(ENOUGH // 2 - 1):
        succeeds(breaker)
        fails(breaker)
    assert breaker.usable(TARGET)
    succeeds(breaker)
    fails(breaker)
    assert not breaker.usable(TARGET)


def test_old_failures_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10 * ENOUGH):
        succeeds(breaker)
        fails(breaker)
        clock.now += WINDOW / (ENOUGH / 2 - 2)
    assert breaker.usable(TARGET)


def test_other_targets_are_not_touched(breaker: Breaker) -> None:
    opened(breaker)
    assert breaker.usable("openai/other")
    assert breaker.begin("openai/other")


def test_after_the_rest_one_probe_goes_through(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_REST * 1.0 + 0.001
    assert breaker.usable(TARGET)
    assert breaker.begin(TARGET)
    assert not breaker.usable(TARGET)
    assert not breaker.begin(TARGET)
    assert seen(breaker)["circuit"] == "half_open"
    breaker.succeed(TARGET, 0.1)
    assert seen(breaker)["circuit"] == "closed"


def test_a_probe_that_says_nothing_makes_way_for_the_next(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_REST + 1
    assert breaker.begin(TARGET)
    breaker.release(TARGET)
    assert breaker.begin(TARGET)


def test_each_relapse_doubles_the_rest_up_to_a_minute(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    for rest in (5.0, 10.0, 20.0, 40.0, LONGEST_REST, LONGEST_REST):
        clock.now += rest - 0.001
        assert not breaker.usable(TARGET)
        clock.now += 0.002
        fails(breaker)
    clock.now += LONGEST_REST + 1
    succeeds(breaker)
    clock.now += RAMP + 1
    opened(breaker)
    clock.now += FIRST_REST + 0.001
    assert breaker.usable(TARGET)


@pytest.mark.parametrize(("roll", "rest"), [(0.0, 4.5), (0.999, 5.499)])
def test_rests_differ_a_little(breaker: Breaker, clock: Clock, roll: float, rest: float) -> None:
    clock.roll = roll
    opened(breaker)
    clock.now += rest - 0.01
    assert not breaker.usable(TARGET)
    clock.now += 0.02
    assert breaker.usable(TARGET)


def test_a_recovered_target_gets_a_growing_share(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    admitted = []
    for _ in range(int(RAMP) + 1):
        count = 0
        for step in range(100):
            clock.roll = step / 100
            if breaker.begin(TARGET):
                breaker.release(TARGET)
                count += 1
        admitted.append(count)
        clock.now += 1.0
    assert admitted[0] == 11
    assert admitted == sorted(admitted)
    assert admitted[5] == 51
    assert admitted[-1] == 100


def test_a_recovered_target_without_another_after_it_is_not_spared(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert not breaker.begin(TARGET, last=True)
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    clock.roll = 0.99
    assert not breaker.begin(TARGET)
    assert breaker.begin(TARGET, last=True)


def test_late_failures_of_before_do_not_prolong_the_rest(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        assert breaker.begin(TARGET)
    for _ in range(CONSECUTIVE):
        breaker.fail(TARGET)
    clock.now += FIRST_REST - 1
    for _ in range(20 - CONSECUTIVE):
        breaker.fail(TARGET)
    clock.now += 1.001
    assert breaker.usable(TARGET)
    assert breaker.in_flight(TARGET) == 0


def test_a_late_end_of_before_lets_no_second_probe_through(breaker: Breaker, clock: Clock) -> None:
    for _ in range(CONSECUTIVE + 2):
        assert breaker.begin(TARGET)
    for _ in range(CONSECUTIVE):
        breaker.fail(TARGET)
    clock.now += FIRST_REST + 1
    assert breaker.begin(TARGET)
    breaker.fail(TARGET)
    assert not breaker.begin(TARGET)
    breaker.release(TARGET)
    assert not breaker.begin(TARGET)
    breaker.fail(TARGET)  # the last one: the probe's
    assert not breaker.usable(TARGET)
    clock.now += 2 * FIRST_REST + 0.001
    assert breaker.usable(TARGET)


def test_a_late_success_of_before_does_not_cut_the_rest_short(breaker: Breaker) -> None:
    for _ in range(CONSECUTIVE + 1):
        assert breaker.begin(TARGET)
    for _ in range(CONSECUTIVE):
        breaker.fail(TARGET)
    breaker.succeed(TARGET, 9.0)
    assert not breaker.usable(TARGET)


def test_a_target_that_said_retry_after_is_left_alone(breaker: Breaker, clock: Clock) -> None:
    breaker.cool(TARGET, 2.0)
    breaker.cool(TARGET, 1.0)
    clock.now += 1.99
    assert not breaker.usable(TARGET)
    assert not breaker.begin(TARGET)
    clock.now -= 0.99
    assert seen(breaker)["cooling_s"] == 1.0
    clock.now += 1.01
    assert breaker.begin(TARGET)


def test_it_is_known_when_a_target_can_be_tried_again(breaker: Breaker, clock: Clock) -> None:
    assert breaker.back(TARGET) == 0
    breaker.cool(TARGET, 20.0)
    clock.now += 5
    assert breaker.back(TARGET) == 15
    clock.now += 20
    assert breaker.back(TARGET) == 0
    opened(breaker)
    assert breaker.back(TARGET) == FIRST_REST
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    assert breaker.back(TARGET) == 0
    breaker.drain(TARGET, True)
    assert breaker.back(TARGET) is None


def test_a_drained_target_gets_no_new_calls(breaker: Breaker) -> None:
    breaker.drain(TARGET, True)
    assert not breaker.begin(TARGET)
    breaker.drain(TARGET, False)
    assert breaker.begin(TARGET)


def test_latency_follows_what_is_seen(breaker: Breaker) -> None:
    assert breaker.latency(TARGET) is None
    assert breaker.begin(TARGET)
    breaker.succeed(TARGET, 1.0)
    assert breaker.latency(TARGET) == 1.0
    for _ in range(50):
        assert breaker.begin(TARGET)
        breaker.succeed(TARGET, 0.2)
    assert breaker.latency(TARGET) == pytest.approx(0.2, rel=0.01)


def test_calls_in_flight_are_counted(breaker: Breaker) -> None:
    assert breaker.in_flight(TARGET) == 0
    assert breaker.begin(TARGET)
    assert breaker.begin(TARGET)
    assert breaker.in_flight(TARGET) == 2
    breaker.release(TARGET)
    assert breaker.in_flight(TARGET) == 1
    breaker.succeed(TARGET, 0.1)
    assert breaker.in_flight(TARGET) == 1, "it still streams"
    breaker.leave(TARGET)
    assert breaker.in_flight(TARGET) == 0


def test_answers_that_are_cut_in_a_row_open_the_circuit(breaker: Breaker) -> None:
    is_cut(breaker, CONSECUTIVE - 1)
    succeeds(breaker)
    is_cut(breaker, CONSECUTIVE - 1)
    assert breaker.usable(TARGET)
    is_cut(breaker)
    assert not breaker.usable(TARGET)


def test_a_share_of_answers_that_are_cut_opens_the_circuit(breaker: Breaker) -> None:
    for _ in range(ENOUGH // 2 - 1):
        succeeds(breaker)
        is_cut(breaker)
    assert breaker.usable(TARGET)
    succeeds(breaker)
    is_cut(breaker)
    assert not breaker.usable(TARGET)


def test_a_target_that_still_cuts_its_answers_is_left_alone_again_at_once(
    breaker: Breaker, clock: Clock
) -> None:
    is_cut(breaker, CONSECUTIVE)
    clock.now += FIRST_REST + 1
    is_cut(breaker)
    assert not breaker.usable(TARGET)
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    clock.now += RAMP
    is_cut(breaker)
    assert breaker.usable(TARGET)


def test_streams_of_before_hold_up_no_probe_and_judge_nothing(breaker: Breaker, clock: Clock) -> None:
    for _ in range(2 * CONSECUTIVE):
        assert breaker.begin(TARGET)
        breaker.succeed(TARGET, 0.1)
    opened(breaker)
    clock.now += FIRST_REST + 1
    assert breaker.begin(TARGET)
    for _ in range(2 * CONSECUTIVE):
        breaker.leave(TARGET, cut=True)
    assert seen(breaker)["circuit"] == "half_open"
    breaker.fail(TARGET)
    assert seen(breaker)["circuit"] == "open", "it is the probe that failed"
    assert breaker.in_flight(TARGET) == 0


def test_retries_are_a_share_of_calls() -> None:
    clock = Clock()
    budgets = RetryBudgets(clock)
    assert [budgets.spend(TARGET, 0.2) for _ in range(4)] == [True, True, True, False]
    for _ in range(100):
        budgets.call(TARGET)
    assert sum(budgets.spend(TARGET, 0.2) for _ in range(100)) == 17
    assert budgets.spend("openai/other", 0.2)
    clock.now += WINDOW + 0.001
    assert budgets.spend(TARGET, 0.2)


class AnyLife(RuleBasedStateMachine):
    """Whatever happens in whatever order: counts stay true and no two probes run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(self.clock, self.clock.dice)
        self.running = 0
        self.streaming = 0
        self.probe = False

    @rule(roll=st.floats(0, 0.999))
    def begin(self, roll: float) -> None:
        self.clock.roll = roll
        before = self.condition()
        usable = self.breaker.usable(TARGET)
        begun = self.breaker.begin(TARGET)
        assert usable or not begun
        if begun:
            self.running += 1
            if before != "closed":
                assert not self.probe
                self.probe = True

    @precondition(lambda self: self.running)
    @rule(end=st.sampled_from(["succeed", "fail", "fail", "fail", "release"]))
    def end(self, end: str) -> None:
        self.running -= 1
        if end == "succeed":
            self.breaker.succeed(TARGET, 0.1)
            self.streaming += 1
        else:
            getattr(self.breaker, end)(TARGET)
        if self.running == 0 or self.condition() != "half_open":
            self.probe = False

    @precondition(lambda self: self.streaming)
    @rule(cut=st.booleans())
    def leave(self, cut: bool) -> None:
        self.streaming -= 1
        self.breaker.leave(TARGET, cut)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 61.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def counts_are_true(self) -> None:
        assert self.breaker.in_flight(TARGET) == self.running + self.streaming

    @invariant()
    def nobody_is_shut_out_for_ever(self) -> None:
        if not self.running:
            now, self.clock.now = self.clock.now, self.clock.now + 2 * LONGEST_REST
            assert self.breaker.usable(TARGET)
            self.clock.now = now

    def condition(self) -> str:
        return next((str(row["circuit"]) for row in self.breaker.report()), "closed")


AnyLife.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAnyLife = AnyLife.TestCase


def test_a_target_is_broken_until_its_circuit_is_closed_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(CONSECUTIVE):
        assert breaker.broken() == set()
        assert breaker.begin(TARGET)
        breaker.fail(TARGET)
    assert breaker.broken() == {TARGET}
    clock.now += 2 * FIRST_REST
    assert breaker.begin(TARGET)
    assert breaker.broken() == {TARGET}, "a probe is no recovery yet"
    breaker.succeed(TARGET, 0.1)
    assert breaker.broken() == set()
