import fnmatch
import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.globs import is_glob, matcher, model_matcher


def test_a_star_alone_matches_everything_and_nothing() -> None:
    assert matcher(["*"])("anything")
    assert matcher(["*"])("")


def test_names_match_whole_and_with_their_case() -> None:
    allowed = matcher(["gpt-5", "demo"])
    assert allowed("gpt-5")
    assert not allowed("gpt-5-mini")
    assert not allowed("GPT-5")
    assert not allowed("gpt-5\n")


def test_no_pattern_matches_nothing() -> None:
    assert not matcher([])("")


def test_globs_and_names_stand_together() -> None:
    allowed = matcher(["demo", "gpt-*", "o?"])
    assert [name for name in ("demo", "gpt-", "gpt-5", "o1", "o10", "xgpt-5") if allowed(name)] == [
        "demo",
        "gpt-",
        "gpt-5",
        "o1",
    ]


def test_brackets_and_dots_are_themselves() -> None:
    assert matcher(["a[1].*"])("a[1].x")
    assert not matcher(["a[1].*"])("a1.x")
    assert not matcher(["a.b*"])("axb")


def test_a_line_break_is_a_character_like_any_other() -> None:
    assert matcher(["a*c"])("a\nb\nc")


def test_a_glob_of_models_matches_no_list_of_them() -> None:
    """LiteLLM would ask each model of the list."""
    assert model_matcher(["gpt-*"])("gpt-5")
    assert not model_matcher(["gpt-*"])("gpt-5,secret")
    assert model_matcher(["gpt-*", "gpt-5,o3"])("gpt-5,o3")
    assert model_matcher(["gpt-*", "*"])("gpt-5,secret")
    assert matcher(["gpt-*"])("gpt-5,secret")


def test_is_glob_knows_both_signs() -> None:
    assert is_glob("a*")
    assert is_glob("a?")
    assert not is_glob("a[b]")


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=12))
def test_globs_agree_with_the_shell(pattern: str, name: str) -> None:
    assert matcher([pattern])(name) == bool(re.fullmatch(fnmatch.translate(pattern), name))


def test_many_stars_do_not_run_away() -> None:
    assert not matcher(["a*" * 30 + "b"])("a" * 256)
