"""Google's Gemini API: the model and what is wanted of it stand in the path."""

from dataclasses import dataclass
from urllib.parse import quote

from gateway.core.exchange import Call, Target
from gateway.providers.compatible import Compatible

# What a translated call asks for; a stream of its events is asked for by name and query.
_METHODS = {"gemini.generate": "generateContent", "gemini.batch_embed": "batchEmbedContents"}


@dataclass(slots=True, frozen=True)
class Gemini(Compatible):
    def path(self, target: Target, call: Call, spoken: str) -> str:
        return f"/models/{quote(target.asked(call.model), safe='@')}:{method(call, spoken)}"


def method(call: Call, spoken: str) -> str:
    """What stands behind the colon, with the query: the client's own where it speaks Gemini too."""
    if spoken == call.dialect:
        path, mark, query = call.path.partition("?")
        return path.rpartition(":")[2] + mark + query
    return "streamGenerateContent?alt=sse" if call.stream else _METHODS[spoken]
