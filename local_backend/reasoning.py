"""Thoughts apart from the answer: `<think>…</think>` at the beginning of a text. Torch-free."""

from collections.abc import Collection
from typing import NamedTuple

from local_backend.detok import overlap


class Marks(NamedTuple):
    """What a family of models writes around its thoughts."""

    opens: str
    closes: str


KNOWN = (
    Marks("<think>", "</think>"),
    Marks("[THINK]", "[/THINK]"),
    Marks("<seed:think>", "</seed:think>"),
)


def marks_of(template: str, added: Collection[str] = ()) -> Marks | None:
    """How a model with this chat template, and these tokens beside its vocabulary's words, shows its thoughts;
    None: it has none, or not in a known way."""
    return next((marks for marks in KNOWN if marks.closes in template or marks.opens in added), None)


class Reasoning:
    """One per choice: before the opening mark, inside, after the closing one. The white space around thoughts
    belongs to nobody. `length`: characters of the text so far that thoughts and their marks take up."""

    def __init__(self, marks: Marks, *, inside: bool) -> None:
        self._marks = marks
        self._state = "inside" if inside else "before"
        self._held = ""
        self._bare = True  # nothing but white space yet where the state began
        self._fed = self.length = 0

    @property
    def open(self) -> bool:
        """Thoughts may still come."""
        return self._state in ("before", "inside")

    def feed(self, text: str, *, last: bool = False) -> tuple[str, str]:
        """(thoughts, answer) that are certain by now; with `last` all that is left."""
        self._held += text
        self._fed += len(text)
        thoughts = ""
        if self._state == "before":
            self._open(last)
        if self._state == "inside":
            self.length = self._fed
            thoughts = self._think(last)
        return thoughts, self._answer() if self._state in ("after", "plain") else ""

    def _open(self, last: bool) -> None:
        begin = self._held.lstrip()
        if begin.startswith(self._marks.opens):
            self._state, self._held = "inside", begin[len(self._marks.opens) :]
        elif last or not self._marks.opens.startswith(begin):
            self._state = "plain"

    def _think(self, last: bool) -> str:
        thoughts, mark, rest = self._held.partition(self._marks.closes)
        if mark:
            self._state, self._held = "after", rest
            self.length = self._fed - len(rest)
        if mark or last:
            certain = len(thoughts.rstrip())
        else:  # white space is held back: it may be the last
            certain = len(thoughts[: len(thoughts) - overlap(thoughts, self._marks.closes)].rstrip())
        if not mark:
            self._held = "" if last else thoughts[certain:]
        thoughts = thoughts[:certain]
        if self._bare:
            thoughts = thoughts.lstrip()
        self._bare = bool(mark) or (self._bare and not thoughts)
        return thoughts

    def _answer(self) -> str:
        text, self._held = self._held, ""
        if self._state == "after":
            text = text.lstrip()
            if text:
                self._state = "plain"
        return text
