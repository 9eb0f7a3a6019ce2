"""A call in one dialect, answered in another. OpenAI's chat is the house language between any two: a front
turns its dialect into chat and chat's answers back, a back does the reverse for a provider's format.

What chat has no word for travels in words that other gateways use too: `reasoning_content` and
`reasoning_details` (signed or encrypted thinking; `thoughts` tells its place), `cache_control`, `annotations`,
`other_blocks` (parts nobody here knows, as they came).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest, GatewayError
from gateway.wire.base import EVENTS, Asked, Changes, Tap
from gateway.wire.fields import loaded, note_usage
from gateway.wire.gathered import gathered
from gateway.wire.media import is_shown
from gateway.wire.overflow import CODE, is_overflow
from gateway.wire.refusals import Refusals
from gateway.wire.sides import WRONG_SHAPE, Back, Front, Json, Piece, Writer
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import bare
from gateway.wire.written import exactly, read_exactly

_ODD = (*WRONG_SHAPE, RecursionError)


def refusal_across(front: Front, back: Back, status: int, body: bytes) -> bytes:
    """A provider's error as the client is to see it."""
    return _refusal(front, status, back.error(body))


def _refusal(front: Front, status: int, error: Json) -> bytes:
    if is_overflow(status, error):
        error = {**error, "code": CODE}
    return front.refusal(status, str(error.get("message") or ""), error)


class Crossing:
    """Stands where a dialect stands when the provider does not speak the client's."""

    crosses = True

    def __init__(self, name: str, front: Front, back: Back, media: bytes = EVENTS) -> None:
        self.name, self.media = name, media
        self._front, self._back = front, back

    def write(self, call: Call, changes: Changes) -> bytes:
        """Raises BadRequest."""
        try:
            body = orjson.dumps(self._across(call, changes))
        except BadRequest as refusal:
            raise _renamed(refusal, self._front.place) from None
        except _ODD as error:
            # Fronts and backs name what they refuse. A value of a kind that none of them thought of ends here.
            raise BadRequest(
                "a value of this call is not of the kind its API takes, and cannot be translated for the model's "
                "provider; check the kinds of its fields",
                code="invalid_value",
            ) from error
        for names in (changes.dropped, changes.left_out):
            if names:
                names[:] = dict.fromkeys(map(self._front.place, dict.fromkeys(names)))
        return body

    def _across(self, call: Call, changes: Changes) -> Json:
        refusals = Refusals("chat completions", changes.dropped, changes.left_out)
        payload = exactly(call.payload, call.body) if isinstance(call.body, bytes) else call.payload
        chat = self._front.to_chat(payload, refusals)
        chat["model"] = changes.model
        if call.stream:
            chat["stream"] = True
            chat["stream_options"] = {"include_usage": True}  # a writer needs it, whatever the client asked
        lost: list[str] | None = None if changes.dropped is None else []
        left: list[str] = []
        try:
            body = self._back.from_chat(chat, changes._replace(dropped=lost, left_out=left))
        except BadRequest as refusal:
            raise _renamed(refusal, lambda place: refusals.origin(chat, place)) from None
        for names, found in ((changes.dropped, lost), (changes.left_out, left)):
            if names is not None and found:
                names.extend(refusals.origin(chat, one) for one in dict.fromkeys(found))
        return body

    def gives_usage(self, payload: Mapping[str, Any]) -> bool:
        return True

    def tap(self, asked: Asked) -> Tap:
        writer = self._front.writer(asked.payload, asked.moment, asked.ident)
        return CrossingTap(asked, self._front, writer, self._back)

    def refusal(self, status: int, body: bytes) -> bytes:
        return refusal_across(self._front, self._back, status, body)


def _renamed(refusal: BadRequest, name: Callable[[str], str]) -> BadRequest:
    """The same of a field as the client knows it."""
    if not refusal.param:
        return refusal
    known = name(refusal.param)
    message = refusal.message.replace(refusal.param, known)
    return BadRequest(message, code=refusal.code, param=known)


class CrossingTap:
    """Turns an answer over while it passes, and keeps its account."""

    __slots__ = (
        "_back", "_front", "_open", "_reader", "_reason", "_request_id", "_shown", "_usage", "_writer", "begun",
        "error", "failed", "finish_reason", "finished", "settled",
    )  # fmt: skip

    def __init__(self, asked: Asked, front: Front, writer: Writer, back: Back) -> None:
        self._usage, self._front, self._writer, self._back = asked.usage, front, writer, back
        self._request_id, self._open = asked.request_id, asked.choices
        self._reader = back.reader()
        self.begun = self.settled = self.finished = self.failed = False
        self.error: Json = {}  # OpenAI's error object of a stream that failed
        self.finish_reason = self._reason = ""  # in chat's words, and in the provider's own
        self._shown = False  # whether pictures or sound came

    @property
    def complete(self) -> bool:
        """Whether nothing is missing but the end of the body, which is no event."""
        return self.settled and self._reader.complete

    def feed(self, chunk: bytes) -> bytes:
        """Raises BadStream."""
        try:
            return self._turn(self._reader.feed(chunk))
        except BadStream:
            raise
        except WRONG_SHAPE as error:
            raise BadStream("an event is not what its format says") from error

    def rest(self) -> bytes:
        try:
            return self._turn(self._reader.rest())
        except BadStream:
            raise
        except WRONG_SHAPE as error:
            raise BadStream("the last event is not what its format says") from error

    def whole(self, body: bytes) -> bytes | None:
        """Raises BadStream for a generation that failed, and BadRequest for one of pictures or sound (which none would
        answer better), where this dialect's answers cannot tell of it."""
        return self._told(body, lambda completion: orjson.dumps(self._writer.whole(completion)))

    def streamed(self, body: bytes) -> bytes | None:
        """A whole answer that came though a stream was asked for, as the stream that the client waits for. Raises the
        same."""
        return self._told(
            body, lambda completion: self._writer.write(_chunk(completion)) + self._writer.end()
        )

    def _told(self, body: bytes, tell: Callable[[Json], bytes]) -> bytes | None:
        self.begun = self.finished = True
        try:
            completion = self._back.completion(read_exactly(body))
            told = tell(completion)
            self._shown = is_shown(completion["choices"][0]["message"])
        except WRONG_SHAPE:
            self.failed = True
            note_usage(self._usage, loaded(body).get("usage"))  # Responses and chat bill what failed, too
            return None
        note_usage(self._usage, completion.get("usage"))
        for choice in completion["choices"][:1]:
            self._note_reason(choice)
        if not self._usage.reported:
            self._usage.completion = len(body) // 4
        self._refuse_untold()
        return told

    def whole_of(self, stream: bytes) -> bytes:
        """A stream that came though none was asked for, as the whole answer that the client waits for; b"" where it
        tells an error. Raises the same, and BadStream for one that breaks off."""
        try:
            pieces = [*self._reader.feed(stream), *self._reader.rest()]
            for piece in pieces:
                if "error" in piece:
                    self.begun, self.failed, self.error = True, True, piece["error"]
                    return b""
                self._note(piece)
            if not self._reader.finished:
                raise BadStream("the stream ended before its end")
            completion = gathered(pieces)
            if not completion["choices"]:
                raise BadStream("the stream holds no answer")
            told = orjson.dumps(self._writer.whole(completion))
        except BadStream:
            raise
        except WRONG_SHAPE as error:
            raise BadStream("an event is not what its format says") from error
        self.begun = self.finished = True
        self._refuse_untold()
        return told

    def broken(self, error: GatewayError) -> bytes:
        """What ends a stream that broke, in the order of what was told before."""
        return self._fail({"error": {"message": error.message, "type": error.type, "code": error.code}})

    def refusal(self, status: int) -> bytes:
        """The error of a stream that began with one, as an answer with this status."""
        return _refusal(self._front, status, self.error)

    def _turn(self, pieces: Iterable[Piece]) -> bytes:
        out = []
        for piece in pieces:
            self.begun = True
            if self.failed or self.finished:
                # Its client has been told the end; what it took may still be said.
                note_usage(self._usage, piece.get("usage"))
            elif "error" in piece:
                out.append(self._fail(piece))
            else:
                self._note(piece)
                out.append(self._writer.write(piece))
        if self._reader.finished and not self.finished and not self.failed:
            if error := self._untold():
                out.append(self._fail({"error": error}))
            else:
                self.settled = self.finished = True
                out.append(self._writer.end())
        return b"".join(out)

    def _fail(self, piece: Piece) -> bytes:
        self.settled, self.failed, self.error = True, True, piece["error"]
        return self._writer.write({**piece, "request_id": self._request_id})

    def _refuse_untold(self) -> None:
        if error := self._untold():
            if error["type"] == "invalid_request_error":
                raise BadRequest(error["message"], code=error["code"])
            raise BadStream(error["message"])

    def _untold(self) -> Json:
        """The error that is told in place of an end; empty where the answer tells all."""
        if self.finish_reason == "error" and not self._writer.tells_failure:
            return {"message": f"the generation failed ({self._reason})", "type": "api_error"}
        if self._shown and not self._writer.tells_media:
            message = (
                "the model answered with pictures or sound, for which this API has no place; chat completions "
                "and Gemini's have one"
            )
            return {"message": message, "type": "invalid_request_error", "code": "unsupported_output"}
        return {}

    def _note(self, piece: Piece) -> None:
        if piece.get("usage"):
            note_usage(self._usage, piece["usage"])
        elif "prompt" in piece:
            self._usage.prompt, self._usage.cached = piece["prompt"]
        for choice in piece["choices"]:
            delta = choice.get("delta") or {}
            self._shown = self._shown or is_shown(delta)
            said = delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls")
            if said:
                self.settled = False  # it goes on: a pause is not its end
                if not self._usage.reported:
                    self._usage.completion += -(-len(str(said)) // 4)
            self._note_reason(choice)

    def _note_reason(self, choice: Json) -> None:
        if reason := choice.get("finish_reason"):
            self.settled = self._open == 1  # who says one with each word has not ended
            self._open -= 1
            self.finish_reason = str(reason)
            self._reason = str(choice.get("native_finish_reason") or reason)


def _chunk(completion: Json) -> Piece:
    """A completion as the one chunk of a stream."""
    choices = []
    for choice in completion["choices"]:
        delta = dict(choice["message"])
        calls = [{**bare(call), "index": place} for place, call in enumerate(delta.get("tool_calls") or [])]
        choices.append({**choice, "delta": delta | ({"tool_calls": calls} if calls else {})})
        del choices[-1]["message"]
    return {**completion, "choices": choices}
