import base64
from typing import Any

import pytest

from gateway.wire.thoughts import (
    after,
    after_all,
    bare,
    cuts,
    in_order,
    is_plain,
    packed,
    plain,
    say,
    unpacked,
)


def test_a_thought_behind_others_says_how_much_came_before_it() -> None:
    assert after(0, 0) == {}
    assert after_all({"role": "assistant", "content": None}) == {}
    assert after_all({"content": "abc", "tool_calls": [{}, {}]}) == {"after": [3, 2]}


def said(content: Any, *places: Any) -> list[Any]:
    """The steps of a message with two calls and thoughts at these places, which are named by their number."""
    details = [{"n": number, "after": place} for number, place in enumerate(places)]
    steps = in_order(details, content, ["x", "y"])
    return [([one["n"] for one in thoughts], words, list(calls)) for thoughts, words, calls in steps]


def test_a_message_is_told_in_the_order_in_which_it_was_said() -> None:
    assert said("abcd") == [([], "abcd", ["x", "y"])]
    assert said("abcd", [0, 0], [0, 0]) == [([0, 1], "abcd", ["x", "y"])]
    assert said("abcd", [0, 0], [1, 0], [3, 1], [4, 2]) == [
        ([0], "a", []), ([1], "bc", ["x"]), ([2], "d", ["y"]), ([3], "", []),
    ]  # fmt: skip
    assert said("ab", [2, 0]) == [([], "ab", []), ([0], "", ["x", "y"])]


def test_words_behind_calls_are_known_by_the_calls() -> None:
    message: dict[str, Any] = {"content": None}
    say(message, "ab")
    assert message == {"content": "ab"}
    message["tool_calls"] = [{"id": "x"}]
    say(message, "\n")
    assert message["tool_calls"] == [{"id": "x"}], "blank words need no place"
    say(message, "c")
    message["tool_calls"] += [{"id": "y"}, {"id": "z", "after": "nonsense"}]
    assert message["content"] == "ab\nc"
    assert cuts(message["tool_calls"]) == [(3, 1)]
    assert bare(message["tool_calls"][0]) == {"id": "x"}


def test_words_behind_calls_are_told_behind_them_among_thoughts() -> None:
    def steps(details: list[Any], *cut: tuple[int, int]) -> list[Any]:
        found = in_order(details, "abcd", ["x", "y"], cut)
        return [([one["n"] for one in thoughts], words, list(calls)) for thoughts, words, calls in found]

    assert steps([], (0, 1)) == [([], "", ["x"]), ([], "abcd", ["y"])]
    assert steps([], (2, 1), (2, 2)) == [([], "ab", ["x"]), ([], "", ["y"]), ([], "cd", [])]
    assert steps([{"n": 0}, {"n": 1, "after": [2, 1]}], (1, 1)) == [
        ([0], "a", ["x"]), ([], "b", []), ([1], "cd", ["y"]),
    ]  # fmt: skip


def test_blank_words_are_left_to_those_that_follow() -> None:
    assert said("\n\nb", [0, 0], [2, 0], [3, 1]) == [([0, 1], "\n\nb", ["x"]), ([2], "", ["y"])]


def test_words_that_are_not_one_text_are_not_cut() -> None:
    parts = [{"type": "text", "text": "abcd"}]
    assert said(parts, [0, 0], [2, 1]) == [([0], parts, ["x"]), ([1], "", ["y"])]
    assert said(parts, [2, 0]) == [([0], parts, ["x", "y"])]
    assert said(None, [0, 1]) == [([], "", ["x"]), ([0], "", ["y"])]


@pytest.mark.parametrize("place", [None, "ab", [1], [-1, 0], ["a", "b"], [0, True], {}])
def test_a_place_that_is_none_is_the_first(place: Any) -> None:
    assert said("ab", place) == [([0], "ab", ["x", "y"])]


def test_a_place_beyond_the_end_is_the_end() -> None:
    assert said("ab", [9, 9]) == [([], "ab", ["x", "y"]), ([0], "", [])]


def test_what_was_packed_comes_back_but_for_its_text_and_place() -> None:
    detail = {"type": "reasoning.text", "signature": "s?>", "format": "f", "text": "hm", "index": 3}
    text = packed(detail)
    kept = {"type": "reasoning.text", "signature": "s?>", "format": "f"}
    assert unpacked(text) == kept
    assert unpacked(text.replace("+", "-").replace("/", "_")) == kept


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", base64.b64encode(b"gatehouse:{").decode(),
                                  base64.b64encode(b"gatehouse:[]").decode()])  # fmt: skip
def test_what_was_not_is_left_alone(text: str) -> None:
    assert unpacked(text) is None


def test_thoughts_can_be_read_where_they_are_text() -> None:
    text, summed = {"type": "reasoning.text", "text": "a"}, {"type": "reasoning.summary", "summary": "b"}
    hidden = {"type": "reasoning.encrypted", "data": "x"}
    assert list(map(is_plain, (text, summed, hidden))) == [True, True, False]
    assert plain({"reasoning_details": [text, hidden, summed, "odd"]}) == "ab"
    assert plain({"reasoning_content": "c", "reasoning_details": [text]}) == "c"
    assert plain({}) == ""
