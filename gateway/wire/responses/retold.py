"""A response of the other kind than was asked for, whole or a stream, told as was asked: in its provider's own words
and under its own id, by which the provider knows it again."""

from collections.abc import Iterator

import orjson

from gateway.wire.base import Asked, Tap
from gateway.wire.crossing import Crossing, CrossingTap
from gateway.wire.responses.back import ResponsesBack
from gateway.wire.responses.dialect import completed, items_told, last_response
from gateway.wire.responses.events import tell
from gateway.wire.responses.front import ResponsesFront
from gateway.wire.sides import Json
from gateway.wire.sse import BadStream
from gateway.wire.written import read_exactly


class Retold(Crossing):
    """From the dialect to itself."""

    def __init__(self) -> None:
        super().__init__("openai.responses", ResponsesFront(), ResponsesBack())

    def tap(self, asked: Asked) -> Tap:
        writer = self._front.writer(asked.payload, asked.moment, asked.ident)
        return RetoldTap(asked, self._front, writer, self._back)


class RetoldTap(CrossingTap):
    """Keeps the account as a crossing does."""

    __slots__ = ()

    def streamed(self, body: bytes) -> bytes | None:
        """Each item comes at once. Raises BadStream."""
        if super().streamed(body) is None:
            return None
        events = enumerate(_events(read_exactly(body)))
        return b"".join(tell(name, number, **members) for number, (name, members) in events)

    def whole_of(self, stream: bytes) -> bytes:
        """Raises BadStream."""
        told = super().whole_of(stream)
        if not told:
            return b""
        if (response := last_response(stream)) is None:
            raise BadStream("the last event holds no response")
        return orjson.dumps(completed(response, items_told(stream) or orjson.loads(told)["output"]))


def _events(response: Json) -> Iterator[tuple[str, Json]]:
    yield "response.created", {"response": {**response, "status": "in_progress", "output": []}}
    for place, item in enumerate(response["output"]):
        for kind in ("added", "done"):
            yield f"response.output_item.{kind}", {"output_index": place, "item": item}
    yield f"response.{response.get('status') or 'completed'}", {"response": response}
