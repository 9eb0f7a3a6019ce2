"""The table of well-known models: found by the longest name, and honest about what it does not know."""

import pytest

from gateway.providers.models import MODELS, known


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4-turbo", "gpt-4-turbo"),
        ("openai/gpt-5", "gpt-5"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("command-r-plus-08-2024", "command-r-plus"),
        ("command-r7b-12-2024", "command-r7b"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-opus-4@20250514", "claude-opus-4-20250514"),
        ("claude-3-5-sonnet-v2@20241022", "claude-3-5-sonnet"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash-image-preview", "gemini-2.5-flash-image"),
        ("gemini-3-pro-preview", "gemini-3-pro"),
    ],
)
def test_a_model_is_found_by_the_longest_name_that_its_own_begins_with(model: str, entry: str) -> None:
    assert known(model) is MODELS[entry]


@pytest.mark.parametrize(
    "model", ["gpt-4ominous", "gpt-5.1", "my-gpt-4o", "command-a-plus-05-2026", "claude-sonnet-4-6", ""]
)
def test_of_other_models_nothing_is_known(model: str) -> None:
    assert known(model) is None


def test_no_bound_is_nonsense() -> None:
    for name, model in MODELS.items():
        assert 0 <= model.output <= model.context or not model.context, name
    assert list(MODELS) == sorted(MODELS)
