from gateway.core.usage import Usage


def test_the_total_counts_cached_and_reasoning_tokens_once() -> None:
    assert Usage(prompt=10, completion=5, cached=8, reasoning=4).total == 15
