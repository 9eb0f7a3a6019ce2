"""Ids back to text as they come: never half a character, never the beginning of a stop string. Torch-free."""

from collections.abc import Collection, Sequence

from local_backend.tokenizer import Tokenizer


class Detokenizer:
    """One per choice. `stopped` is true once a stop string was found: the text ends there.

    Special tokens are no text, but for those in `keep`, which a parser looks for. `begun`: it goes on with a text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        *,
        keep_stop: bool = False,
        keep: Collection[int] = (),
        begun: bool = False,
    ) -> None:
        self._reader = tokenizer.reader(begun=begun)
        self._stops, self._keep_stop = [stop for stop in stops if stop], keep_stop
        self._hidden = tokenizer.specials.keys() - set(keep)
        self._held = ""
        self.told = 0  # characters that came out of the stream so far: where the next token's text begins
        self.sent = 0  # characters given out so far
        self.stopped = False

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is certain by now."""
        if self.stopped:
            return ""
        for token in ids:
            if token not in self._hidden and (part := self._reader.step(token)):
                self.told += len(part)
                self._held += part
        return self._release(final=False)

    def end(self) -> tuple[str, bool]:
        """What was held back when the sequence ended, and whether a stop string was found."""
        if self.stopped:
            return "", True
        self._held += self._reader.end()
        return self._release(final=True), self.stopped

    def _release(self, *, final: bool) -> str:
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            # the one that ends first, so that the pieces in which text comes make no difference
            place, stop = min(found, key=lambda one: (one[0] + len(one[1]), one[0]))
            cut = place + (len(stop) if self._keep_stop else 0)
        else:
            keep = 0 if final else max((overlap(self._held, stop) for stop in self._stops), default=0)
            cut = len(self._held) - keep
        text, self._held = self._held[:cut], "" if found else self._held[cut:]
        self.sent += len(text)
        return text


def overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` could be the beginning of `mark`."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
