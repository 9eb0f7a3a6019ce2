"""Ids back to text as they come: never half a character, never the beginning of a stop string. Torch-free."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Detokenizer:
    """One per choice. `stopped` is true once a stop string was found: the text ends before it."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stops = [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._told = 0  # characters that came out of the stream so far
        self._held = ""
        self.stopped = False

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is certain by now."""
        if self.stopped:
            return ""
        for token in ids:
            self._ids.append(token)
            part = self._stream.step(self._tokenizer, token)
            if part:
                self._told += len(part)
                self._held += part
        return self._release(final=False)

    def end(self) -> tuple[str, bool]:
        """What was held back when the sequence ended, and whether a stop string was found."""
        if self.stopped:
            return "", True
        whole = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        self._held += whole[self._told :]  # an incomplete character is shown as a full decode shows it
        return self._release(final=True), self.stopped

    def _release(self, *, final: bool) -> str:
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            text, self._held = self._held[: min(places)], ""
            return text
        keep = 0 if final else max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` could be the beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
