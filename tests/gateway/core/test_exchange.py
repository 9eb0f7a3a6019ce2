"""A target has one name for metrics and another for the model it is asked for."""

import subprocess
import sys

import pytest

from gateway.core.exchange import Attempt, Shape, Target, new_id
from tests.gateway.policy.calls import exchange


def target(model: str) -> Target:
    return Target("p/*", "p", "compatible", "openai.chat", model, facts="secret-facts")


def test_a_target_without_a_model_passes_the_asked_name_through() -> None:
    assert (target("").asked("m"), target("").asked_name("m")) == ("m", "p/m")


def test_a_target_with_a_model_is_asked_for_that() -> None:
    assert (target("n").asked("m"), target("n").asked_name("m")) == ("n", "p/n")


def test_where_no_model_is_named_a_target_goes_by_its_own_name() -> None:
    assert target("").asked_name("") == "p/*"


def test_what_has_neither_input_nor_choices_is_not_metered() -> None:
    assert [Shape(0, 0, 0).metered, Shape(3, 0, 0).metered, Shape().metered] == [False, True, True]


def test_facts_stay_out_of_what_is_printed() -> None:
    assert "secret-facts" not in repr(target(""))


def test_ids_of_later_calls_sort_after_those_of_earlier_ones() -> None:
    ids = [new_id(clock) for clock in (0.001, 1_800_000_000.0, 1_800_000_000.001, 4_000_000_000.0)]
    assert ids == sorted(ids)
    assert {len(bytes.fromhex(one)) for one in ids} == {16}


def test_ids_of_one_moment_differ() -> None:
    assert len({new_id(1_800_000_000.0) for _ in range(1000)}) == 1000


def test_a_process_that_is_forked_draws_ids_of_its_own() -> None:
    script = (
        "import os; from gateway.core.exchange import new_id; new_id(0)\n"
        "child = os.fork(); child and os.wait(); print(new_id(0))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.split()
    assert len(set(told)) == 2


@pytest.mark.parametrize(
    ("shape", "is_reported", "is_estimated"),
    [(Shape(3), False, True), (Shape(3), True, False), (Shape(choices=0), False, False)],
)
def test_what_a_call_took_is_a_guess_unless_the_provider_told_it_or_nothing_is_counted(
    shape: Shape, is_reported: bool, is_estimated: bool
) -> None:
    made = exchange(shape=shape)
    made.attempts.append(Attempt(target(""), 0.0, sent=True))
    made.usage.reported = is_reported
    assert made.estimated is is_estimated


@pytest.mark.parametrize(
    ("attempts", "is_estimated"),
    [
        ([], False),
        ([("ok", False)], False),
        ([("broken", True)], False),
        ([("overran", True)], True),
        ([("broken", True), ("cut", True)], True),
        ([("cut", True), ("throttled", True)], False),
    ],
)
def test_nothing_is_guessed_of_a_call_that_nobody_worked_on_to_the_end(
    attempts: list[tuple[str, bool]], is_estimated: bool
) -> None:
    made = exchange(shape=Shape(3))
    made.attempts += [Attempt(target(""), 0.0, result=result, sent=sent) for result, sent in attempts]
    assert made.estimated is is_estimated
