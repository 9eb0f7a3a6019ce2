"""What a text may say next, by what it has said before: the drafts that a step tries out. Torch-free.

Prompt lookup (Saxena, 2023: https://github.com/apoorvumang/prompt-lookup-decoding), found by the hash chains of LZ77
(RFC 1951, section 4): one entry a token, and a bounded number of places looked at for each draft.
"""

_LEAST = 3  # tokens of a match: of two, half as many drafts are drawn
_PLACES = 8  # where the last three tokens stood before, looked at from the latest on
_LONGEST = 16  # tokens compared at each: a longer match tells no more


class Lookup:
    """Of one text, which only ever grows."""

    def __init__(self) -> None:
        self._latest: dict[tuple[int, ...], int] = {}  # three tokens -> where the last of them stands
        self._before: list[int] = []  # by place: where the three that end there ended before; 0: nowhere

    def draft(self, tokens: list[int], most: int) -> list[int]:
        """What followed the longest match of the text's end, the latest of those of one length; `most` tokens, or
        none. What repeats itself up to the end goes on so."""
        self._read(tokens)
        place = self._match(tokens)
        period = len(tokens) - 1 - place
        return [tokens[place + 1 + ahead % period] for ahead in range(most)] if place else []

    def _read(self, tokens: list[int]) -> None:
        """What is new since the last time."""
        before, latest = self._before, self._latest
        for place in range(len(before), len(tokens)):
            word = tuple(tokens[max(0, place + 1 - _LEAST) : place + 1])
            before.append(latest.get(word, 0))
            latest[word] = place

    def _match(self, tokens: list[int]) -> int:
        """Where it ends; 0 where there is none."""
        end = len(tokens) - 1
        place, longest, found = self._before[end], 0, 0
        for _ in range(_PLACES):
            if not place or longest == _LONGEST:
                break
            length = 0
            while length < min(_LONGEST, place + 1) and tokens[place - length] == tokens[end - length]:
                length += 1
            if length > longest:
                longest, found = length, place
            place = self._before[place]
        return found
