"""Tool calls out of a model's text: what is certain goes out at once, what only looks like a call is content, and
nothing is lost. White space beside calls belongs to nobody. Torch-free."""

from dataclasses import dataclass
from typing import Any

from local_backend.formats import Format
from local_backend.part import CallPart, joined
from local_backend.readers import SPACE, NoCall, Reader, Schemas

MOST_AGAIN = 1 << 16  # characters of a text that are read once more: marks within marks would take for ever


@dataclass(slots=True, frozen=True)
class Tools:
    """What a call offers. `told` is what the chat template is shown, `schemas` are those that may be called, `strict`
    names those whose arguments must keep their schema; `forced`: one of them is to be called; `most`: calls wanted."""

    told: list[dict[str, Any]]
    schemas: Schemas
    strict: frozenset[str] = frozenset()
    forced: bool = False
    most: int | None = None


class Parser:
    """One per choice. `calls` have begun so far; `ended` of them have ended."""

    def __init__(self, format: Format, tools: Tools) -> None:
        self._format, self._tools = format, tools
        self.calls = self.ended = 0
        self._content, self._parts = "", list[CallPart]()
        self._told = False  # some content has gone out
        self._space = self._held = self._raw = ""
        self._ahead = list[str]()  # characters to be read, the next one last
        self._again = 0
        self._reader: Reader | None = None

    @property
    def full(self) -> bool:
        """No further call is wanted."""
        return self._tools.most is not None and self.ended >= self._tools.most

    def feed(self, text: str, *, last: bool = False) -> tuple[str, list[CallPart]]:
        """(content, calls) that are certain by now; with `last` what was held back as well: an unfinished beginning
        of a call is content."""
        self._read(text)
        if last:
            self._finish()
        told = self._content, joined(self._parts)
        self._content, self._parts = "", []
        return told

    # what a reader tells: from here on there is no way back

    def begin(self, name: str) -> None:
        self._say(CallPart(self.calls, name, ""))
        self.calls += 1

    def more(self, arguments: str) -> None:
        self._say(CallPart(self.calls - 1, "", arguments))

    def end(self) -> None:
        self._raw = ""
        self.ended += 1

    # one character after another

    def _read(self, text: str) -> None:
        """And what turns out on the way to be no call, and is read again."""
        self._ahead += reversed(text)
        while self._ahead and not self.full:
            self._step(self._ahead.pop())

    def _step(self, character: str) -> None:
        if self._reader is not None:
            self._raw += character
            self._send(self._reader, character)
            return
        self._held += character
        marks = self._marks()
        while self._held and not any(mark.startswith(self._held) for mark in marks):
            self._tell(self._held[0])
            self._held = self._held[1:]
            marks = self._marks()
        if self._held in marks:
            self._raw, self._held = self._held, ""
            self._reader = self._format.read(self._raw, self._tools.schemas, self)
            self._send(self._reader, None)

    def _marks(self) -> tuple[str, ...]:
        if not self._format.bare or self._told:
            return self._format.marks
        return (*self._format.marks, "{", *(("; {", ";{") if self.calls else ()))

    def _send(self, reader: Reader, character: str | None) -> None:
        try:
            reader.send(character)  # type: ignore[arg-type]  # None starts it
        except StopIteration:
            self._reader, self._raw = None, ""
        except NoCall:
            self._give_up()

    def _give_up(self) -> None:
        """The first character is content; what follows may hold a call of its own."""
        raw, self._raw, self._reader = self._raw, "", None
        self._again += len(raw)
        sure = 1 if self._again <= MOST_AGAIN else len(raw)
        for character in raw[:sure]:
            self._tell(character)
        self._ahead += reversed(raw[sure:])

    def _finish(self) -> None:
        while self._reader is not None and not self.full:
            self._reader.close()
            self._give_up()
            self._read("")
        for character in self._held:
            self._tell(character)
        self._held = ""
        if not self.calls:
            self._content += self._space

    def _say(self, part: CallPart) -> None:
        self._space = self._raw = ""
        self._parts.append(part)

    def _tell(self, character: str) -> None:
        if character in SPACE:
            self._space += character
        else:
            self._content += self._space + character
            self._space, self._told = "", True
