"""What one choice of an answer adds, as it goes out: text, thoughts, calls, logprobs, why it ended. Torch-free."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Scored(NamedTuple):
    """One drawn token with natural logarithms of probabilities; `offset` is where its text begins in the
    choice's text, in characters; `likeliest` holds (id, logprob), best first."""

    id: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...]
    offset: int


class CallPart(NamedTuple):
    """Of the tool call number `call`: its name, which comes first, and more of its arguments, which are JSON."""

    call: int
    name: str
    arguments: str


@dataclass(slots=True)
class Part:
    """At most one chunk of a stream; the parts of a choice, added up, are the choice."""

    content: str = ""
    scored: list[Scored] = field(default_factory=list)
    finish: str = ""  # in OpenAI's words; empty: there is more to come
    reasoning: str = ""
    calls: list[CallPart] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.scored or self.finish or self.reasoning or self.calls)

    def add(self, later: "Part") -> None:
        self.content += later.content
        self.scored += later.scored
        self.finish = later.finish
        self.reasoning += later.reasoning
        self.calls = joined([*self.calls, *later.calls])


def joined(parts: list[CallPart]) -> list[CallPart]:
    """Neighbours of one call put together."""
    found: list[CallPart] = []
    for call, name, arguments in parts:
        if found and found[-1].call == call:
            found[-1] = CallPart(call, found[-1].name + name, found[-1].arguments + arguments)
        else:
            found.append(CallPart(call, name, arguments))
    return found


@dataclass(slots=True)
class Usage:
    """Of one prompt and its choices, or of a whole call, in tokens."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )

    def told(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }
