"""OpenAI's chat as SageMaker's endpoints take it: which model is asked stands in the path, and the container's stream
comes in Amazon's frames, cut anywhere."""

import orjson

from gateway.core.exchange import Call
from gateway.wire import sse
from gateway.wire.base import Asked, Changes
from gateway.wire.chat import Chat, ChatTap
from gateway.wire.converse.back import ConverseBack
from gateway.wire.converse.reader import failed, parsed
from gateway.wire.crossing import refusal_across
from gateway.wire.eventstream import CONTENT_TYPE, Message
from gateway.wire.eventstream import Splitter as FrameSplitter
from gateway.wire.hub import ChatBack, ChatFront, ChatReader
from gateway.wire.sides import Json
from gateway.wire.splice import reframed


class Invocations(Chat):
    """The way from a chat client."""

    crosses = True
    media = CONTENT_TYPE

    def __init__(self) -> None:
        super().__init__("sagemaker.chat", "messages")

    def write(self, call: Call, changes: Changes) -> bytes:
        return reframed(super().write(call, changes), _model(changes), lambda name: name != "model")

    def tap(self, asked: Asked) -> ChatTap:
        return ChatTap(asked.usage, asked.withhold_usage, asked.choices, Parts())

    def refusal(self, status: int, body: bytes) -> bytes:
        return refusal_across(ChatFront(), InvocationsBack(), status, body)


class InvocationsBack(ChatBack):
    """Behind clients of other dialects."""

    def from_chat(self, chat: Json, changes: Changes) -> Json:
        body = super().from_chat(chat, changes)
        del body["model"]
        return body | _model(changes)

    def reader(self) -> ChatReader:
        return ChatReader(Parts())

    def error(self, body: bytes) -> Json:
        """What the container itself said, where it was the one to refuse."""
        error = ConverseBack().error(body)  # as all of Amazon's
        try:
            said = orjson.loads(body).get("OriginalMessage")
        except (orjson.JSONDecodeError, AttributeError):
            said = None
        return super().error(said.encode()) if isinstance(said, str) and said else error


class Parts(sse.Splitter):
    """Reads frames and returns the container's events."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        super().__init__()
        self._frames = FrameSplitter()

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        feed = super().feed
        frames = self._frames.feed(chunk)
        return b"".join(_error(one) if one.exception else feed(one.payload) for one in frames)


def _model(changes: Changes) -> Json:
    """The endpoint's name is none of its container's: that knows its one model by another, or by none."""
    return {name: changes.params[name] for name in ("model",) if name in changes.params}


def _error(message: Message) -> bytes:
    return b"data: " + orjson.dumps({"error": failed(message, parsed(message.payload))}) + b"\n\n"
