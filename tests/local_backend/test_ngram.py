"""Drafts are what followed the longest match of a text's end, against the same looked for everywhere."""

import random

from local_backend.ngram import Lookup


def everywhere(tokens: list[int], most: int) -> list[int]:
    """The same by trying every place, of texts in which no three tokens stand more often than is looked at."""
    longest, found = 2, 0
    for place in range(len(tokens) - 1):
        length = 0
        while length < min(16, place + 1) and tokens[place - length] == tokens[-1 - length]:
            length += 1
        if length > 2 and length >= longest:
            longest, found = length, place
    drafts = list(tokens)
    for ahead in range(most if found else 0):
        drafts.append(drafts[found + 1 + ahead])
    return drafts[len(tokens) :]


def test_the_longest_match_is_found_however_the_text_came() -> None:
    dice = random.Random(3)
    matches = 0
    for _ in range(300):
        tokens = [dice.randrange(5) for _ in range(dice.randrange(1, 60))]
        grown = Lookup()
        for length in range(1, len(tokens)):
            if dice.random() < 0.3:
                grown.draft(tokens[:length], 1)
        expected = everywhere(tokens, 6)
        assert grown.draft(tokens, 6) == Lookup().draft(tokens, 6) == expected
        matches += bool(expected)
    assert matches > 40


def test_the_longer_match_goes_before_the_later_one() -> None:
    assert Lookup().draft([9, 1, 2, 3, 4, 5, 8, 2, 3, 4, 6, 7, 9, 1, 2, 3, 4], 3) == [5, 8, 2]


def test_what_repeats_itself_goes_on_so() -> None:
    assert Lookup().draft([1, 2, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]
    assert Lookup().draft([7] * 5, 4) == [7] * 4


def test_two_tokens_are_no_match() -> None:
    assert Lookup().draft([5, 1, 2, 3, 6, 1, 2], 4) == []


def test_each_token_is_indexed_once_and_few_places_are_looked_at() -> None:
    class Counted(list[int]):
        reads = 0

        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            Counted.reads += 1
            return super().__getitem__(at)

    tokens, lookup = Counted([1, 2, 3] * 2000), Lookup()
    lookup.draft(tokens, 8)
    for _ in range(100):
        before = Counted.reads
        tokens.append(tokens[-3])
        lookup.draft(tokens, 8)
        assert Counted.reads - before < 300, "however long the text is"
