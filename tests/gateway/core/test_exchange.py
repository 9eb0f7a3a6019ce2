"""A target has one name for metrics and another for the model it is asked for."""

from gateway.core.exchange import Shape, Target, new_id


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
