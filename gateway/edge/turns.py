"""Responses over a WebSocket: each `response.create` is a call of its own that walks in by the same door as a POST,
with its own key check, limits, record and usage. Connection and handshake count as one more call in flight.
"""

import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import orjson

from gateway.core.failure import BadRequest, GatewayError, Overloaded
from gateway.core.head import Head
from gateway.edge.asgi import App, Message, Scope
from gateway.edge.body import ClientLeft
from gateway.edge.frames import Frames, refusal
from gateway.edge.recent import Quota, Recent
from gateway.edge.reception import Handle, Reception, Visit
from gateway.edge.websocket import GOING_AWAY, POLICY, TRY_LATER, Socket, is_asked, welcome
from gateway.wire.fields import refuse_crowd

# Of the calls that may be in flight, open connections may be so many, and those of one team so many of them.
SHARE, SHARE_OF_TEAM = 1 / 2, 1 / 4
REMEMBERED = 16  # conversations of the largest size that all connections together may remember
MOST_LANES = 16  # that are at work at once
MOST_WAITING = 16  # turns that wait for those before them
_LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}", re.ASCII)
_OF_THE_HANDSHAKE = frozenset(
    {b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"expect", b"idempotency-key",
     b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol"}
)  # fmt: skip


class Turn(NamedTuple):
    lane: str
    previous: str
    body: bytes


class WebSockets:
    """GET /v1/responses. `app` takes a POST there; what asks for no WebSocket goes on to `otherwise`."""

    def __init__(self, reception: Reception, app: App, otherwise: Handle) -> None:
        self._reception, self._app, self._otherwise = reception, app, otherwise
        self._open: Counter[str] = Counter()
        self._quota = Quota(REMEMBERED * reception.bounds.body)

    async def __call__(self, visit: Visit) -> None:
        if not is_asked(visit.head):
            return await self._otherwise(visit)
        head = welcome(visit.head, visit.writer.request_id)
        upgrade = visit.scope.get("gateway.upgrade")
        if upgrade is None:
            message = (
                "a WebSocket begins with a plain HTTP/1.1 request that has no body and waits for its answer"
            )
            raise BadRequest(message, code="invalid_request")
        team, bounds = visit.caller.team, self._reception.bounds
        if (
            self._open.total() >= bounds.in_flight * SHARE
            or self._open[team] >= bounds.in_flight * SHARE_OF_TEAM
        ):
            raise Overloaded("as many WebSockets are open as may be; close one, or use HTTP")
        socket: Socket | None = upgrade(head, lambda state: Socket(state, bounds.body))
        if socket is None:
            raise ClientLeft
        recent = Recent(bounds.body, self._quota)
        hold = partial(self._reception.keep, visit)
        scope = {**visit.scope, "gateway.recent": recent}
        talk = socket.talk = Talk(scope, self._app, socket, bounds.body, hold)
        self._open[team] += 1
        try:
            await asyncio.shield(socket.gone)
        except asyncio.CancelledError:  # the process ends; turns are told so by themselves
            talk.end()
        finally:
            self._open[team] -= 1
            recent.clear()


class Talk:
    """What goes on over one WebSocket. Turns of one lane follow one another, lanes go side by side."""

    def __init__(
        self, scope: Scope, app: App, socket: Socket, most: int, hold: Callable[[int], None]
    ) -> None:
        """`hold` is told how many bytes of turns there are in all, and may raise Overloaded for more than before."""
        self._app, self._socket, self._most = app, socket, most
        self._hold = hold
        self._bytes = self._coming = 0  # of turns that wait or are under way, of one that is not whole yet
        self._scope = {
            **scope,
            "method": "POST",
            "gateway.head": _head(scope["gateway.head"]),
            "gateway.abort": None,
        }
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, deque[Turn]] = {}  # those at work, with what waits
        self._scopes: dict[str, Scope] = {}  # of the turns that are under way
        self._ends = self._aged = False

    def hear(self, message: bytes) -> None:
        lane, self._coming = "", 0
        try:
            event = _event(message)
            lane = _lane(event)
            self._put(_turn(event, lane))
        except GatewayError as error:
            if not self._socket.reads:
                return self._socket.close(POLICY, "read what you are told")
            self._socket.write(refusal(error, lane))

    def comes(self, size: int) -> None:
        self._coming = size
        try:
            self._take(0)
        except Overloaded as error:
            self._coming = 0
            self._socket.close(TRY_LATER, error.message)

    def _put(self, turn: Turn) -> None:
        """Raises BadRequest, Overloaded."""
        if self._ends:
            raise Overloaded("this connection is about to end; open another one")
        if (waiting := self._lanes.get(turn.lane)) is None:
            if len(self._lanes) >= MOST_LANES:
                message = f"at most {MOST_LANES} responses are made at once over one connection"
                raise BadRequest(message, code="websocket_stream_limit_reached", param="stream_id")
            self._take(len(turn.body))
            self._lanes[turn.lane] = deque()
            self._begin(turn)
            return
        every = [len(one.body) for lane in self._lanes.values() for one in lane]
        if len(every) >= MOST_WAITING or sum(every) + len(turn.body) > self._most:
            message = (
                f"at most {MOST_WAITING} turns, of {self._most} bytes in all, may wait for those before them"
            )
            raise BadRequest(message, code="too_many_turns")
        self._take(len(turn.body))
        waiting.append(turn)

    def _take(self, size: int) -> None:
        """Raises Overloaded."""
        self._hold(self._bytes + size + self._coming)
        self._bytes += size

    def _begin(self, turn: Turn) -> None:
        task = self._loop.create_task(self._run(turn))
        self._scopes[turn.lane] = {**self._scope, "gateway.task": task}
        self._socket.tasks.add(task)
        task.add_done_callback(self._socket.tasks.discard)

    async def _run(self, turn: Turn) -> None:
        told, scope = False, self._scopes[turn.lane]

        async def receive() -> Message:
            nonlocal told
            if told:
                return {"type": "http.disconnect"}
            told = True
            return {"type": "http.request", "body": turn.body, "more_body": False}

        frames = Frames(self._socket, turn.lane)
        try:
            await self._app(scope, receive, frames.send)
            await frames.end()
        finally:
            if frames.failed and turn.previous:
                self._scope["gateway.recent"].forget(turn.previous)
            self._take(-len(turn.body))
            self._next(turn.lane)

    def _next(self, lane: str) -> None:
        del self._scopes[lane]
        if waiting := self._lanes.get(lane):
            self._begin(waiting.popleft())
            return
        self._lanes.pop(lane, None)
        if self._ends:
            self._close_idle()

    def leave(self) -> None:
        self._ends = True
        self._hold = _hold_no_more  # nor count what still ends: the room is given back with the connection
        self._lanes.clear()
        for scope in self._scopes.values():
            scope.get("gateway.hangup", scope["gateway.task"].cancel)()

    def end(self, *, aged: bool = False) -> None:
        if not self._ends:
            self._ends, self._aged = True, aged
            self._close_idle()

    def _close_idle(self) -> None:
        if self._lanes:
            return
        if self._aged:
            message = "this connection is an hour old, which is all it may be; open another one"
            self._socket.write(refusal(BadRequest(message, code="websocket_connection_limit_reached"), ""))
        self._socket.close(GOING_AWAY, "too old" if self._aged else "the gateway is shutting down")


def _hold_no_more(size: int) -> None: ...


def _head(head: Head) -> Head:
    """What the handshake says of every turn. To a provider that is asked by HTTP a beta of this transport means
    nothing."""
    kept = {name: value for name, value in head.items() if name not in _OF_THE_HANDSHAKE}
    if beta := kept.pop(b"openai-beta", b""):
        others = [one for one in beta.split(b",") if not one.strip().startswith(b"responses_websockets")]
        kept |= {b"openai-beta": b",".join(others)} if others else {}
    return Head(kept | {b"content-type": b"application/json", b"accept": b"text/event-stream"})


def _event(message: bytes) -> dict[str, Any]:
    """Raises BadRequest."""
    refuse_crowd(message)
    try:
        event = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise BadRequest("the message is not valid JSON", code="invalid_json") from None
    if not isinstance(event, dict):
        raise BadRequest("the message must be a JSON object", code="invalid_json")
    return event


def _lane(event: dict[str, Any]) -> str:
    """Raises BadRequest."""
    lane = event.get("stream_id")
    if lane is not None and not (isinstance(lane, str) and _LANE.fullmatch(lane)):
        message = "'stream_id' must be 1 to 256 letters, digits, dots, dashes and underscores"
        raise BadRequest(message, code="invalid_value", param="stream_id")
    return lane or ""


def _turn(event: dict[str, Any], lane: str) -> Turn:
    """Raises BadRequest for what is no turn."""
    if event.get("type") != "response.create":
        message = f"'type' must be response.create, not {str(event.get('type'))[:64]!r}"
        raise BadRequest(message, code="invalid_value", param="type")
    if event.get("background"):
        message = "'background' is not for WebSockets; POST /v1/responses takes it"
        raise BadRequest(message, code="unsupported_parameter", param="background")
    asked = {name: value for name, value in event.items() if name not in ("type", "stream_id")}
    if asked.get("generate") is not False:
        asked.pop("generate", None)
    previous = asked.get("previous_response_id")
    return Turn(lane, previous if isinstance(previous, str) else "", orjson.dumps({**asked, "stream": True}))
