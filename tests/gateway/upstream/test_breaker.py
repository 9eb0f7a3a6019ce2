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
    MOST_PASSED,
    RAMP,
    WINDOW,
    Breaker,
)

TARGET = "openai/gpt"
GLOB = "openai/*"


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
        assert breaker.begin(TARGET, TARGET)
        breaker.fail(TARGET)


def succeeds(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.begin(TARGET, TARGET)
        breaker.succeed(TARGET, 0.1)
        breaker.leave(TARGET)


def is_cut(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.begin(TARGET, TARGET)
        breaker.succeed(TARGET, 0.1)
        breaker.leave(TARGET, cut=True)


def passes(breaker: Breaker, *names: str, end: str = "succeed") -> None:
    """A call for each by way of a target that passes names through."""
    for name in names:
        assert breaker.begin(name, GLOB)
        if end == "succeed":
            breaker.succeed(name, 0.1)
            breaker.leave(name)
        elif end == "throttled":
            breaker.cool(name, 30.0)
            breaker.release(name)
        elif end:
            getattr(breaker, end)(name)


def known(breaker: Breaker, names: list[str]) -> list[str]:
    return [name for name in names if breaker.latency(name) is not None]


def many(count: int) -> list[str]:
    return [f"openai/gpt-{n}" for n in range(count)]


def opened(breaker: Breaker) -> None:
    fails(breaker, CONSECUTIVE)
    assert not breaker.usable(TARGET, TARGET)


def test_failures_in_a_row_open_the_circuit(breaker: Breaker) -> None:
    fails(breaker, CONSECUTIVE - 1)
    succeeds(breaker)
    fails(breaker, CONSECUTIVE - 1)
    assert breaker.usable(TARGET, TARGET)
    fails(breaker)
    assert not breaker.usable(TARGET, TARGET)
    assert not breaker.begin(TARGET, TARGET)
    assert seen(breaker)["circuit"] == "open"
    assert breaker.states() == [((TARGET,), 2.0)]


def test_a_high_share_of_failures_opens_the_circuit(breaker: Breaker) -> None:
    for _ in range(ENOUGH // 2 - 1):
        succeeds(breaker)
        fails(breaker)
    assert breaker.usable(TARGET, TARGET)
    succeeds(breaker)
    fails(breaker)
    assert not breaker.usable(TARGET, TARGET)


@pytest.mark.parametrize("how", ["fails", "is_cut"])
def test_what_fails_less_than_half_the_time_is_well(breaker: Breaker, how: str) -> None:
    succeeds(breaker, 2)
    for _ in range(ENOUGH // 2 - 1):
        succeeds(breaker)
        {"fails": fails, "is_cut": is_cut}[how](breaker)
    assert breaker.usable(TARGET, TARGET)


def test_failures_from_before_a_recovery_do_not_count_after_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(ENOUGH // 2):
        succeeds(breaker)
        fails(breaker)
    clock.now += FIRST_REST + 1
    clock.roll = 0.0  # spared it is not
    assert clock.now - 1000.0 < WINDOW
    succeeds(breaker)
    fails(breaker)
    assert breaker.usable(TARGET, TARGET)


def test_old_failures_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10 * ENOUGH):
        succeeds(breaker)
        fails(breaker)
        clock.now += WINDOW / (ENOUGH / 2 - 2)
    assert breaker.usable(TARGET, TARGET)


def test_other_targets_are_not_touched(breaker: Breaker) -> None:
    opened(breaker)
    assert breaker.usable("openai/other", "openai/other")
    assert breaker.begin("openai/other", "openai/other")


def test_after_the_rest_one_probe_goes_through(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_REST * 1.0 + 0.001
    assert breaker.usable(TARGET, TARGET)
    assert breaker.begin(TARGET, TARGET)
    assert not breaker.usable(TARGET, TARGET)
    assert not breaker.begin(TARGET, TARGET)
    assert seen(breaker)["circuit"] == "half_open"
    breaker.succeed(TARGET, 0.1)
    assert seen(breaker)["circuit"] == "closed"


def test_a_probe_that_says_nothing_makes_way_for_the_next(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_REST + 1
    assert breaker.begin(TARGET, TARGET)
    breaker.release(TARGET)
    assert breaker.begin(TARGET, TARGET)


def test_each_relapse_doubles_the_rest_up_to_a_minute(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    for rest in (5.0, 10.0, 20.0, 40.0, LONGEST_REST, LONGEST_REST):
        clock.now += rest - 0.001
        assert not breaker.usable(TARGET, TARGET)
        clock.now += 0.002
        fails(breaker)
    clock.now += LONGEST_REST + 1
    succeeds(breaker)
    clock.now += RAMP + 1
    opened(breaker)
    clock.now += FIRST_REST + 0.001
    assert breaker.usable(TARGET, TARGET)


@pytest.mark.parametrize(("roll", "rest"), [(0.0, 4.5), (0.999, 5.499)])
def test_rests_differ_a_little(breaker: Breaker, clock: Clock, roll: float, rest: float) -> None:
    clock.roll = roll
    opened(breaker)
    clock.now += rest - 0.01
    assert not breaker.usable(TARGET, TARGET)
    clock.now += 0.02
    assert breaker.usable(TARGET, TARGET)


def test_a_recovered_target_gets_a_growing_share(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    admitted = []
    for _ in range(int(RAMP) + 1):
        count = 0
        for step in range(100):
            clock.roll = step / 100
            if breaker.begin(TARGET, TARGET):
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
    assert not breaker.begin(TARGET, TARGET, last=True)
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    clock.roll = 0.99
    assert not breaker.begin(TARGET, TARGET)
    assert breaker.begin(TARGET, TARGET, last=True)


def test_late_failures_of_before_do_not_prolong_the_rest(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        assert breaker.begin(TARGET, TARGET)
    for _ in range(CONSECUTIVE):
        breaker.fail(TARGET)
    clock.now += FIRST_REST - 1
    for _ in range(20 - CONSECUTIVE):
        breaker.fail(TARGET)
    clock.now += 1.001
    assert breaker.usable(TARGET, TARGET)
    assert breaker.in_flight(TARGET) == 0


def test_a_late_end_of_before_lets_no_second_probe_through(breaker: Breaker, clock: Clock) -> None:
    for _ in range(CONSECUTIVE + 2):
        assert breaker.begin(TARGET, TARGET)
    for _ in range(CONSECUTIVE):
        breaker.fail(TARGET)
    clock.now += FIRST_REST + 1
    assert breaker.begin(TARGET, TARGET)
    breaker.fail(TARGET)
    assert not breaker.begin(TARGET, TARGET)
    breaker.release(TARGET)
    assert not breaker.begin(TARGET, TARGET)
    breaker.fail(TARGET)  # the last one: the probe's
    assert not breaker.usable(TARGET, TARGET)
    clock.now += 2 * FIRST_REST + 0.001
    assert breaker.usable(TARGET, TARGET)


def test_a_late_success_of_before_does_not_cut_the_rest_short(breaker: Breaker, clock: Clock) -> None:
    for _ in range(CONSECUTIVE + 1):
        assert breaker.begin(TARGET, TARGET)
    for _ in range(CONSECUTIVE):
        breaker.fail(TARGET)
    breaker.succeed(TARGET, 9.0)
    assert not breaker.usable(TARGET, TARGET)
    clock.now += FIRST_REST + 1
    fails(breaker)
    assert not breaker.usable(TARGET, TARGET), "it was the probe's own, and no late one's"
    clock.now += 2 * FIRST_REST + 1
    assert breaker.usable(TARGET, TARGET)


def test_a_target_that_said_retry_after_is_left_alone(breaker: Breaker, clock: Clock) -> None:
    assert breaker.begin(TARGET, TARGET)
    breaker.cool(TARGET, 2.0)
    breaker.cool(TARGET, 1.0)
    breaker.release(TARGET)
    clock.now += 1.99
    assert not breaker.usable(TARGET, TARGET)
    assert not breaker.begin(TARGET, TARGET)
    clock.now -= 0.99
    assert seen(breaker)["cooling_s"] == 1.0
    clock.now += 1.01
    assert breaker.begin(TARGET, TARGET)


def test_it_is_known_when_a_target_can_be_tried_again(breaker: Breaker, clock: Clock) -> None:
    assert breaker.back(TARGET, TARGET) == 0
    assert breaker.begin(TARGET, TARGET)
    breaker.cool(TARGET, 20.0)
    breaker.release(TARGET)
    clock.now += 5
    assert breaker.back(TARGET, TARGET) == 15
    clock.now += 20
    assert breaker.back(TARGET, TARGET) == 0
    opened(breaker)
    assert breaker.back(TARGET, TARGET) == FIRST_REST
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    assert breaker.back(TARGET, TARGET) == 0
    breaker.drain(TARGET, True)
    assert breaker.back(TARGET, TARGET) is None


def test_a_drained_target_gets_no_new_calls(breaker: Breaker) -> None:
    breaker.drain(TARGET, True)
    assert not breaker.begin(TARGET, TARGET)
    breaker.drain(TARGET, False)
    assert breaker.begin(TARGET, TARGET)


def test_latency_follows_what_is_seen(breaker: Breaker) -> None:
    assert breaker.latency(TARGET) is None
    assert breaker.begin(TARGET, TARGET)
    breaker.succeed(TARGET, 1.0)
    assert breaker.latency(TARGET) == 1.0
    for _ in range(50):
        assert breaker.begin(TARGET, TARGET)
        breaker.succeed(TARGET, 0.2)
    assert breaker.latency(TARGET) == pytest.approx(0.2, rel=0.01)


def test_calls_in_flight_are_counted(breaker: Breaker) -> None:
    assert breaker.in_flight(TARGET) == 0
    assert breaker.begin(TARGET, TARGET)
    assert breaker.begin(TARGET, TARGET)
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
    assert breaker.usable(TARGET, TARGET)
    is_cut(breaker)
    assert not breaker.usable(TARGET, TARGET)


def test_a_share_of_answers_that_are_cut_opens_the_circuit(breaker: Breaker) -> None:
    for _ in range(ENOUGH // 2 - 1):
        succeeds(breaker)
        is_cut(breaker)
    assert breaker.usable(TARGET, TARGET)
    succeeds(breaker)
    is_cut(breaker)
    assert not breaker.usable(TARGET, TARGET)


def test_a_target_that_still_cuts_its_answers_is_left_alone_again_at_once(
    breaker: Breaker, clock: Clock
) -> None:
    is_cut(breaker, CONSECUTIVE)
    clock.now += FIRST_REST + 1
    is_cut(breaker)
    assert not breaker.usable(TARGET, TARGET)
    clock.now += FIRST_REST + 1
    succeeds(breaker)
    clock.now += RAMP
    is_cut(breaker)
    assert breaker.usable(TARGET, TARGET)


def test_streams_of_before_hold_up_no_probe_and_judge_nothing(breaker: Breaker, clock: Clock) -> None:
    for _ in range(2 * CONSECUTIVE):
        assert breaker.begin(TARGET, TARGET)
        breaker.succeed(TARGET, 0.1)
    opened(breaker)
    clock.now += FIRST_REST + 1
    assert breaker.begin(TARGET, TARGET)
    for _ in range(2 * CONSECUTIVE):
        breaker.leave(TARGET, cut=True)
    assert seen(breaker)["circuit"] == "half_open"
    breaker.fail(TARGET)
    assert seen(breaker)["circuit"] == "open", "it is the probe that failed"
    assert breaker.in_flight(TARGET) == 0


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
        usable = self.breaker.usable(TARGET, TARGET)
        begun = self.breaker.begin(TARGET, TARGET)
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
            assert self.breaker.usable(TARGET, TARGET)
            self.clock.now = now

    def condition(self) -> str:
        return next((str(row["circuit"]) for row in self.breaker.report()), "closed")


AnyLife.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAnyLife = AnyLife.TestCase


def test_a_target_is_broken_until_its_circuit_is_closed_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(CONSECUTIVE):
        assert breaker.broken() == set()
        assert breaker.begin(TARGET, TARGET)
        breaker.fail(TARGET)
    assert breaker.broken() == {TARGET}
    clock.now += 2 * FIRST_REST
    assert breaker.begin(TARGET, TARGET)
    assert breaker.broken() == {TARGET}, "a probe is no recovery yet"
    breaker.succeed(TARGET, 0.1)
    assert breaker.broken() == set()


def test_names_that_are_passed_through_fail_each_by_itself(breaker: Breaker) -> None:
    one, other = many(2)
    passes(breaker, *[one] * CONSECUTIVE, end="fail")
    assert not breaker.begin(one, GLOB)
    passes(breaker, other, GLOB)


def test_they_are_told_as_the_worst_of_them_under_the_name_of_their_target(
    breaker: Breaker, clock: Clock
) -> None:
    well, broken, cooling = many(3)
    passes(breaker, well)
    assert [row["target"] for row in breaker.report()] == [GLOB]
    passes(breaker, *[broken] * CONSECUTIVE, end="fail")
    passes(breaker, cooling, end="throttled")
    passes(breaker, well, end="")
    rows = {row["target"]: row for row in breaker.report()}
    assert list(rows) == [GLOB, broken, cooling]
    assert [rows[name]["circuit"] for name in rows] == ["open", "open", "closed"]
    assert [rows[name]["cooling_s"] for name in rows] == [30.0, 0.0, 30.0]
    assert [rows[name]["in_flight"] for name in rows] == [1, 0, 0]
    assert (rows[GLOB]["latency_s"], rows[broken]["latency_s"]) == (0.1, None)
    assert (breaker.states(), breaker.broken()) == ([((GLOB,), 2.0)], {GLOB})
    clock.now += FIRST_REST + 1
    passes(breaker, broken, end="")
    assert breaker.states() == [((GLOB,), 1.0)]


def test_what_has_a_name_of_its_own_is_told_under_that(breaker: Breaker) -> None:
    passes(breaker, TARGET)
    assert breaker.states() == [((GLOB,), 0.0)]
    succeeds(breaker)
    passes(breaker, TARGET)
    assert breaker.states() == [((GLOB,), 0.0), ((TARGET,), 0.0)], "also when a glob leads to it again"
    fails(breaker, CONSECUTIVE)
    assert breaker.states() == [((GLOB,), 0.0), ((TARGET,), 2.0)]
    assert not breaker.begin(TARGET, GLOB), "it is one and the same model"


def test_a_target_is_told_once_and_also_if_its_only_call_said_nothing(breaker: Breaker) -> None:
    assert breaker.begin(TARGET, TARGET)
    breaker.release(TARGET)
    assert [row["target"] for row in breaker.report()] == [TARGET]
    assert breaker.begin(TARGET, TARGET)
    breaker.drain(TARGET, True)
    assert seen(breaker)["in_flight"] == 1


def test_under_a_glob_the_slowest_model_is_told(breaker: Breaker) -> None:
    for name, seconds in zip(many(2), (0.1, 0.3), strict=True):
        assert breaker.begin(name, GLOB)
        breaker.succeed(name, seconds)
    assert seen(breaker, GLOB)["latency_s"] == 0.3


def test_a_broken_name_that_nobody_asks_for_any_more_is_no_outage(breaker: Breaker, clock: Clock) -> None:
    passes(breaker, *[TARGET] * CONSECUTIVE, end="fail")
    clock.now += FIRST_REST * 1.1 + LONGEST_REST
    assert breaker.begin(TARGET, GLOB)
    assert breaker.broken() == {GLOB}, "somebody does"
    breaker.release(TARGET)
    assert (breaker.broken(), breaker.states()) == (set(), [((GLOB,), 0.0)])
    assert [row["target"] for row in breaker.report()] == [GLOB]


def test_a_configured_target_is_broken_whether_anybody_asks_for_it_or_not(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 1000 * LONGEST_REST
    assert breaker.broken() == {TARGET}


def test_names_that_callers_invent_take_no_more_than_so_much_memory_and_add_no_series(
    breaker: Breaker, clock: Clock
) -> None:
    names = many(5 * MOST_PASSED)
    for name in names:
        passes(breaker, name)
        clock.now += 0.01
    kept = known(breaker, names)
    assert MOST_PASSED // 2 < len(kept) <= MOST_PASSED
    assert kept == names[-len(kept) :], "those of last"
    assert breaker.states() == [((GLOB,), 0.0)]
    assert len(breaker.report()) == 1


@pytest.mark.parametrize("end", ["fail", "throttled", ""])
def test_what_is_broken_or_wants_rest_or_has_calls_in_flight_is_not_forgotten_for_them(
    breaker: Breaker, end: str
) -> None:
    passes(breaker, TARGET)
    passes(breaker, *[TARGET] * (CONSECUTIVE if end == "fail" else 1), end=end)
    passes(breaker, *many(5 * MOST_PASSED))
    assert breaker.latency(TARGET) == 0.1
    assert breaker.in_flight(TARGET) == (0 if end else 1)


def test_configured_targets_are_not_forgotten_for_them(breaker: Breaker) -> None:
    named = [f"ours/{n}" for n in range(2 * MOST_PASSED)]
    for name in named:
        assert breaker.begin(name, name)
        breaker.succeed(name, 0.1)
        breaker.leave(name)
    names = many(3 * MOST_PASSED)
    passes(breaker, *names)
    assert known(breaker, named) == named
    assert MOST_PASSED // 2 < len(known(breaker, names)) <= MOST_PASSED


def test_of_too_many_that_are_all_broken_the_oldest_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    names = many(2 * MOST_PASSED)
    for name in names:
        passes(breaker, *[name] * CONSECUTIVE, end="fail")
        clock.now += 0.001
    away = [name for name in names if not breaker.usable(name, GLOB)]
    assert MOST_PASSED // 2 < len(away) <= MOST_PASSED
    assert away == names[-len(away) :]


def test_as_many_as_have_calls_in_flight_are_known_and_forgotten_when_those_are_over(
    breaker: Breaker,
) -> None:
    names = many(2 * MOST_PASSED)
    passes(breaker, *names, end="")
    assert sum(breaker.in_flight(name) for name in names) == len(names)
    for name in names:
        breaker.succeed(name, 0.1)
        breaker.leave(name)
    passes(breaker, *[f"openai/new-{n}" for n in range(MOST_PASSED)])
    assert len(known(breaker, names)) < MOST_PASSED


def test_an_invented_name_that_says_nothing_leaves_no_trace(breaker: Breaker) -> None:
    passes(breaker, TARGET)
    passes(breaker, *many(5 * MOST_PASSED), end="release")
    assert breaker.latency(TARGET) == 0.1


def test_a_drained_target_lets_no_name_through_and_its_configured_neighbours_be(breaker: Breaker) -> None:
    one, other = many(2)
    passes(breaker, one)
    breaker.drain(GLOB, True)
    for name in (one, other, GLOB):
        assert not breaker.usable(name, GLOB)
        assert not breaker.begin(name, GLOB)
        assert breaker.back(name, GLOB) is None
    succeeds(breaker)
    assert seen(breaker, GLOB)["drained"]
    breaker.drain(GLOB, False)
    passes(breaker, one, other)


def test_a_name_that_is_passed_through_may_be_drained_by_itself(breaker: Breaker) -> None:
    one, other = many(2)
    passes(breaker, one, end="")
    breaker.drain(one, True)
    assert not breaker.begin(one, GLOB)
    passes(breaker, other)
    assert (seen(breaker, one)["drained"], seen(breaker, one)["in_flight"]) == (True, 1)
    assert not seen(breaker, GLOB)["drained"]
