"""Cohere's words in chat's: reasons, efforts, tokens, citations."""

import pytest

from gateway.wire.cohere.words import annotations, chat_usage, count, finish, logprobs, thinking


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("COMPLETE", "stop"), ("TOOL_CALL", "tool_calls"), ("TIMEOUT", "error"), ("NEW", "NEW"), (None, None)],
)
def test_a_reason_is_told_in_chats_words(theirs: str | None, ours: str | None) -> None:
    assert finish(theirs) == ours


def test_an_effort_is_a_budget_of_thinking_up_to_high_which_has_none() -> None:
    assert thinking("none") == {"type": "disabled"}
    assert thinking("medium") == {"type": "enabled", "token_budget": 8192}
    assert thinking("high") == {"type": "enabled"}
    assert thinking("utmost") is None


def test_tokens_are_those_that_the_model_read_and_the_billed_ones_stand_beside_them() -> None:
    tokens = {"input_tokens": 34, "output_tokens": 56, "reasoning_tokens": 9, "image_tokens": 259}
    counts = {"tokens": tokens, "billed_units": {"input_tokens": 267}, "cached_tokens": 5}
    assert chat_usage(counts) == {
        "prompt_tokens": 293,
        "completion_tokens": 56,
        "total_tokens": 349,
        "prompt_tokens_details": {"cached_tokens": 5, "image_tokens": 259},
        "completion_tokens_details": {"reasoning_tokens": 9},
        "billed_units": {"input_tokens": 267},
    }
    assert chat_usage({"billed_units": {"input_tokens": 2}})["prompt_tokens"] == 2, (
        "where nothing else is told"
    )
    assert "billed_units" not in chat_usage({"tokens": tokens})


@pytest.mark.parametrize(("value", "counted"), [(3, 3), (3.0, 3), (True, 0), (-1, 0), ("3", 0), (None, 0)])
def test_what_is_no_number_is_nought(value: object, counted: int) -> None:
    assert count({"n": value}, "n") == counted


def test_each_source_is_cited_where_chat_has_the_text() -> None:
    """The plan stands before the text there. What is cited in a thought is left out."""
    tool = {"type": "tool", "id": "call:0", "tool_output": {"x": "y"}}
    page = {"type": "document", "id": "d", "document": {"url": "https://a", "title": "A"}}
    bare = {"type": "document"}
    cited = annotations(
        [
            {"start": 1, "end": 2, "sources": [tool, page], "type": "TEXT_CONTENT"},
            {"start": 1, "end": 2, "sources": [bare], "type": "PLAN"},
            {"start": 0, "end": 1, "sources": [tool], "type": "THINKING_CONTENT"},
            {"start": 3, "end": 4},
        ],
        10,
    )
    assert [one["url_citation"] for one in cited] == [
        {"start_index": 11, "end_index": 12, "url": "", "title": "call:0"},
        {"start_index": 11, "end_index": 12, "url": "https://a", "title": "A"},
        {"start_index": 1, "end_index": 2, "url": "", "title": ""},
    ]
    assert [one["source"] for one in cited] == [tool, page, bare]


def test_log_probabilities_are_those_of_pieces_of_text() -> None:
    told = logprobs([{"text": "h\u00e9", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}, {"token_ids": [3]}])
    assert told is not None
    assert told["content"] == [
        {"token": "h\u00e9", "logprob": -0.75, "bytes": [104, 195, 169], "top_logprobs": []},
        {"token": "", "logprob": 0, "bytes": [], "top_logprobs": []},
    ]
    assert logprobs([]) is None
