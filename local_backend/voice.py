"""How one model tells its thoughts, its calls and its answer apart, and who listens to one choice. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from local_backend.formats import Format, format_of
from local_backend.part import Part
from local_backend.reasoning import Marks, Reasoning, marks_of
from local_backend.tokenizer import Tokenizer
from local_backend.tools import Parser, Tools

Stance = Literal["before", "inside", "after"]


@dataclass(slots=True, frozen=True)
class Voice:
    """`specials`: ids of the tokens that are no text, by what the vocabulary calls them."""

    marks: Marks | None = None
    format: Format | None = None
    specials: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, template: str, tokenizer: Tokenizer, format: Format | None = None) -> "Voice":
        """By what its chat template and its vocabulary hold; `format` where it is known better."""
        added = tokenizer.added.values()
        specials = {name: token for token, name in tokenizer.specials.items()}
        return cls(marks_of(template, added), format or format_of(template, added), specials)

    def stance(self, prompt: str, said: str = "") -> Stance:
        """Where a model stands to its thoughts at the end of a prompt; `said`: the beginning of the answer that it
        is to go on with. A template may have opened the thoughts, or closed them."""
        if self.marks is None:
            return "after"
        opens, closes = self.marks
        if said.strip():
            return "inside" if said.rfind(opens) > said.rfind(closes) else "after"
        shown = prompt.rstrip()
        return "inside" if shown.endswith(opens) else "after" if shown.endswith(closes) else "before"

    def ear(self, stance: Stance, tools: Tools | None) -> "Ear":
        reasoning, parser, words = None, None, list[str]()
        if self.marks is not None and stance != "after":
            reasoning = Reasoning(self.marks, inside=stance == "inside")
            words += self.marks
        if self.format is not None and tools is not None:
            parser = Parser(self.format, tools)
            words += self.format.tokens
        return Ear(reasoning, parser, frozenset(self.specials[one] for one in words if one in self.specials))


class Ear:
    """One per choice: its text to parts. `heeds`: ids of tokens that are no text, but are listened to."""

    def __init__(
        self,
        reasoning: Reasoning | None = None,
        parser: Parser | None = None,
        heeds: frozenset[int] = frozenset(),
    ) -> None:
        self._reasoning, self._parser, self.heeds = reasoning, parser, heeds

    @property
    def thinks(self) -> bool:
        """There may be thoughts to come."""
        return self._reasoning is not None and self._reasoning.open

    @property
    def thought(self) -> int:
        """Characters of the text that were thoughts and their marks."""
        return self._reasoning.length if self._reasoning is not None else 0

    @property
    def calls(self) -> int:
        return self._parser.calls if self._parser is not None else 0

    @property
    def full(self) -> bool:
        """All that is wanted has been said."""
        return self._parser is not None and self._parser.full

    def feed(self, text: str, *, last: bool = False) -> Part:
        """What is certain by now; with `last` all that is left."""
        thoughts = ""
        if self._reasoning is not None:
            thoughts, text = self._reasoning.feed(text, last=last)
        if self._parser is None:
            return Part(text, reasoning=thoughts)
        content, calls = self._parser.feed(text, last=last)
        return Part(content, reasoning=thoughts, calls=calls)
