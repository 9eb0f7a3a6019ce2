"""OpenAI embeddings: the answer is large and passes untouched; only its usage is read."""

import re
import struct
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from gateway.core.exchange import Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import EVENTS, Asked, Reading, Untouched
from gateway.wire.crossing import refusal_across
from gateway.wire.envelope import render
from gateway.wire.fields import note_usage, read_object
from gateway.wire.hub import ChatFront
from gateway.wire.refusals import Refusals
from gateway.wire.sides import WRONG_SHAPE, Back, Front, Json
from gateway.wire.weights import estimate

MOST_INPUTS = 2048
_ERROR = re.compile(rb'\s*\{\s*"error"\s*:\s*[{"]')
# In it may stand what the call cost (openrouter-embeddings-fc81606e8b, perplexity-embeddings-ae644e7bce).
_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]++|\{[^{}]*+\})*+\})')


class Embeddings(Untouched):
    """Between a client and a provider that both speak OpenAI's."""

    name = "openai.embeddings"

    def read(self, body: bytes) -> Reading:
        reading = read_object(body)
        asked = reading.payload.get("input")
        if asked is None:
            raise BadRequest("'input' is missing", code="missing_required_parameter", param="input")
        if isinstance(asked, list) and len(asked) > MOST_INPUTS and not isinstance(asked[0], int):
            raise BadRequest(
                f"'input' holds more than {MOST_INPUTS} texts", code="invalid_value", param="input"
            )
        return reading

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        tokens, _ = estimate(payload["input"])
        # An embedding produces no tokens: nothing is reserved for an output.
        return Shape(tokens, 0, 0)

    def tap(self, asked: Asked) -> "EmbeddingsTap":
        return EmbeddingsTap(asked.usage)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return b"data: " + render(error) + b"\n\n"


class EmbeddingsTap:
    """Reads the usage without parsing megabytes of numbers."""

    __slots__ = ("_usage", "begun", "failed", "finish_reason", "finished", "settled")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self.begun = self.settled = self.finished = self.failed = False
        self.finish_reason = ""

    def feed(self, chunk: bytes) -> bytes:
        self.begun = self.finished = True
        return chunk

    def rest(self) -> bytes:
        return b""

    def whole(self, body: bytes) -> bytes | None:
        self.begun = self.finished = True
        first, last = body[:1024], body[-1024:]
        if not (first.lstrip().startswith(b"{") and last.rstrip().endswith(b"}")) or _ERROR.match(first):
            self.failed = True
            return None
        # Usage stands at either end of the object; both ends are searched, never the middle.
        if match := _USAGE.search(last) or _USAGE.search(first):
            try:
                note_usage(self._usage, orjson.loads(match.group(1)))
            except orjson.JSONDecodeError:
                self.failed = True
        return None


class Across(ABC):
    """What ways across share whose answers are whole: those are parsed, as they are written anew. `front` and `back`
    are the formats whose errors they tell and read."""

    crosses = True
    media = EVENTS  # nothing of this is ever streamed
    name: str
    front: Front = ChatFront()
    back: Back

    @abstractmethod
    def turned(self, answer: Any, asked: Asked) -> Json:
        """The client's answer, of the provider's; notes the usage. Raises BadStream, and what reading a value that is
        of another kind raises."""

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        return True

    def tap(self, asked: Asked) -> "TurnedTap":
        return TurnedTap(asked, self.turned)

    def refusal(self, status: int, body: bytes) -> bytes:
        return refusal_across(self.front, self.back, status, body)


class TurnedTap(EmbeddingsTap):
    """For what `Across.turned` gives."""

    __slots__ = ("_asked", "_turn")

    def __init__(self, asked: Asked, turn: Callable[[Any, Asked], Json]) -> None:
        super().__init__(asked.usage)
        self._asked, self._turn = asked, turn

    def whole(self, body: bytes) -> bytes | None:
        self.begun = self.finished = True
        try:
            return orjson.dumps(self._turn(orjson.loads(body), self._asked))
        except WRONG_SHAPE:
            self.failed = True
            return None


def texts_of(payload: Mapping[str, Any], maker: str) -> list[str]:
    """The texts of a call for embeddings. Raises BadRequest for tokens: they are another model's, and cannot be left
    out, for nothing would be left."""
    asked = payload["input"]
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        message = f"'input' must be a text or a list of texts: {maker} takes no tokens"
        raise BadRequest(message, code="unsupported_parameter", param="input")
    return texts


def check_form(payload: Mapping[str, Any], refusals: Refusals) -> None:
    """In which form the numbers are wanted, and of whom: no other provider keeps an account of that."""
    refusals.leave_out_of(payload, ("user",))
    if payload.get("encoding_format") not in (None, "float", "base64"):
        refusals.add("encoding_format")


def vectors_of(found: Any) -> list[list[float]]:
    """Raises BadStream."""
    if not isinstance(found, list) or not all(isinstance(values, list) for values in found):
        raise sse.BadStream("the answer has no embeddings")
    return found


def told(vectors: list[list[float]], prompt: int | None, asked: Asked) -> Json:
    """OpenAI's answer. `prompt` are the tokens that the provider counted, None where it tells nothing."""
    as_text = asked.payload.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": place, "embedding": _base64(values) if as_text else values}
        for place, values in enumerate(vectors)
    ]
    if prompt is None:
        prompt = estimate(asked.payload["input"])[0]
    else:
        note_usage(asked.usage, {"prompt_tokens": prompt})
    counts = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": asked.payload["model"], "usage": counts}


def _base64(values: list[float]) -> str:
    """Little-endian float32, as OpenAI writes them. Raises BadStream."""
    try:
        return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    except (struct.error, OverflowError):
        raise sse.BadStream("an embedding holds what is no number") from None
