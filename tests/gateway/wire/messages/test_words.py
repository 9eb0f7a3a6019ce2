"""Tokens as OpenAI and Anthropic count them: inside the prompt here, beside it there."""

import pytest

from gateway.wire.messages.words import chat_usage, messages_usage, prompt_tokens


def test_what_came_from_a_cache_or_went_into_one_is_part_of_the_prompt() -> None:
    counts = {"input_tokens": 2, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 7,
              "output_tokens_details": {"thinking_tokens": 4}}  # fmt: skip
    assert chat_usage(counts) == {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    assert "completion_tokens_details" not in chat_usage({"output_tokens": 1})


def test_counts_that_are_none_are_nought() -> None:
    assert prompt_tokens({"input_tokens": 2, "cache_read_input_tokens": None, "x": 1}) == (2, 0)


@pytest.mark.parametrize(
    ("prompt", "cached", "written", "fresh"), [(10, 5, 3, 2), (10, 12, 0, 0), (10, 8, 8, 0), (0, 0, 0, 0)]
)
def test_the_parts_never_add_up_to_more_than_the_prompt(
    prompt: int, cached: int, written: int, fresh: int
) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    told = messages_usage({"prompt_tokens": prompt, "prompt_tokens_details": details})
    assert told["input_tokens"] == fresh
    assert told["cache_creation_input_tokens"] == min(written, max(prompt - cached, 0))
