from gateway.core.usage import Usage


def test_the_total_counts_cached_and_reasoning_tokens_once() -> None:
    assert Usage(prompt=10, completion=5, cached=8, reasoning=4).total == 15


def test_what_was_charged_of_a_prompt_before_it_was_known_is_left_out_of_the_rest() -> None:
    told = Usage(prompt=10, completion=5, cached=8, reported=True)
    assert told.beyond(4) == Usage(prompt=6, completion=5, cached=8, reported=True)
    assert told.beyond(11) == Usage(prompt=0, completion=5, cached=8, reported=True)
    assert told.prompt == 10
