"""The answer to one turn of a WebSocket: what is sent as HTTP, told in messages."""

import re
from typing import Any

import orjson

from gateway.core.failure import GatewayError
from gateway.edge.asgi import Message
from gateway.edge.websocket import Socket
from gateway.wire import sse
from gateway.wire.base import EVENTS
from gateway.wire.fields import loaded
from gateway.wire.responses.dialect import last_response
from gateway.wire.splice import set_members

_ERROR = re.compile(rb'"type"\s*:\s*"error"')
_DROPPED = re.compile(rb"^x-gateway-dropped: (.*)\r$", re.MULTILINE)


class Frames:
    """`send` is an ASGI one. `failed` tells that the turn ended badly. A stream may tell a failure twice, by an `error`
    and by the response that failed: here one message ends a turn, and whoever stops at the first would take the second
    for the next turn's. So an error waits for what follows it."""

    def __init__(self, socket: Socket, lane: str) -> None:
        self._socket, self._lane = socket, {"stream_id": lane} if lane else {}
        self._status, self._events = 0, False
        self._body = b""  # of an answer that is no stream
        self._error: dict[str, Any] = {}  # an error that waits
        self._ended = self.failed = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._events = (b"content-type", EVENTS) in [
                (name, value[: len(EVENTS)].lower()) for name, value in message["headers"]
            ]
            if dropped := _DROPPED.search(message.get("lines", b"")):
                fields = dropped[1].decode().split(", ")
                await self._tell(orjson.dumps({"type": "gateway.dropped", "fields": fields}))
            if "body" not in message:
                return
        body: bytes = message.get("body", b"")
        if not self._events:
            self._body += body
            return
        for event in sse.events(body):
            if (data := sse.data(event)) not in (b"", b"[DONE]"):
                await self._event(data, event)

    async def end(self) -> None:
        """Once all is sent: an answer that was no stream is told now, and one without an end is not left so."""
        answer = loaded(self._body)
        if self._status >= 400:
            await self._fail(error_of(answer.get("error"), self._status))
        elif isinstance(answer.get("output"), list):
            status = answer.get("status") or "completed"
            self.failed = status == "failed"
            event = {"type": f"response.{status}", "sequence_number": 0, "response": answer}
            await self._tell(orjson.dumps(event))
        elif self._error:
            await self._tell(orjson.dumps({"status": 502, **self._error}))  # without one Codex waits on
        elif not self._ended:
            await self._fail({"status": 502, "error": {"type": "api_error", "code": "upstream_stream_broken",
                              "message": "the answer broke off", "param": None}})  # fmt: skip

    async def _event(self, data: bytes, event: bytes) -> None:
        waiting, self._error = self._error, {}
        response = last_response(event)
        if waiting and (response is None or response.get("status") != "failed"):
            await self._tell(orjson.dumps(waiting))
        if _ERROR.search(data) and (told := loaded(data)).get("type") == "error":
            self._ended = self.failed = True
            if not isinstance(told.get("error"), dict):
                names = ("type", "code", "message", "param")
                error = {name: told.get(name) for name in names}
                told["error"] = {**error, "type": "server_error"}
            self._error = told
            return
        if response is not None:
            self._ended, self.failed = True, response.get("status") == "failed"
        await self._tell(data)

    async def _fail(self, error: dict[str, Any]) -> None:
        self.failed = True
        await self._tell(orjson.dumps({"type": "error", **error}))

    async def _tell(self, data: bytes) -> None:
        await self._socket.send(set_members(data, {}, self._lane) if self._lane else data)


def error_of(said: Any, status: int) -> dict[str, Any]:
    """What an event says of an error that HTTP tells with this status."""
    error = said if isinstance(said, dict) else {"message": str(said or "the provider gave no reason")}
    named = {name: error.get(name) for name in ("type", "code", "message", "param")}
    return {"status": status, "error": {**named, "type": named["type"] or "api_error"}}


def refusal(error: GatewayError, lane: str) -> bytes:
    """The event for a message that is no turn."""
    told = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
    where = {"stream_id": lane} if lane else {}
    return orjson.dumps({"type": "error", "status": error.status, "error": told, **where})
