"""Google's Gemini API: the model and what is wanted of it stand in the path."""

import re
from dataclasses import dataclass

from gateway.core.exchange import Call, Target
from gateway.providers.compatible import IN_PATH, Compatible, Place

# Projects by their names or numbers, as Google's errors tell them.
_PROJECT = re.compile(rb"(\bprojects/|\bproject=|\bprojects?[ :#]{1,3}(?=\d{6,}))[\w-]+(?:[.:][\w-]+)*")
# What a translated call asks for; a stream of its events is asked for by name and query.
_METHODS = {"gemini.generate": "generateContent", "gemini.batch_embed": "batchEmbedContents"}


@dataclass(slots=True, frozen=True)
class Gemini(Compatible):
    names: re.Pattern[str] | None = IN_PATH

    def path(self, target: Target, call: Call, spoken: str) -> str:
        return f"/models/{self.named(target, call)}:{method(call, spoken)}"

    def mask(self, facts: Place, body: bytes) -> bytes:
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        return _PROJECT.sub(rb"\1***", Compatible.mask(self, facts, body))


def method(call: Call, spoken: str) -> str:
    """What stands behind the colon, with the query: the client's own where it speaks Gemini too."""
    if spoken == call.dialect:
        path, mark, query = call.path.partition("?")
        return path.rpartition(":")[2] + mark + query
    return "streamGenerateContent?alt=sse" if call.stream else _METHODS[spoken]
