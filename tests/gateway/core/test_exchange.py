"""A target has one name for metrics and another for the model it is asked for."""

from gateway.core.exchange import Target


def target(model: str) -> Target:
    return Target("p/*", "p", "compatible", "openai.chat", model, facts="secret-facts")


def test_a_target_without_a_model_passes_the_asked_name_through() -> None:
    assert (target("").asked("m"), target("").asked_name("m")) == ("m", "p/m")


def test_a_target_with_a_model_is_asked_for_that() -> None:
    assert (target("n").asked("m"), target("n").asked_name("m")) == ("n", "p/n")


def test_facts_stay_out_of_what_is_printed() -> None:
    assert "secret-facts" not in repr(target(""))
