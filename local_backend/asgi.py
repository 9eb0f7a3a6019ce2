"""The little of HTTP that the routes share: a body in, an answer or an event stream out. Torch-free."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from local_backend.fields import Refused
from local_backend.types import BadJob, EngineGone, Full

MOST_BODY = 32 << 20
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Route = Callable[[Scope, Receive, Send], Awaitable[None]]
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_LOG = logging.getLogger("local_backend")


class Left(Exception):
    """The client has gone: nobody is to be answered."""


def refusal(trouble: Exception) -> Refused:
    """What went wrong with a call, at its start or later, in the words of the wire. What nobody foresaw is logged."""
    match trouble:
        case Refused():
            return trouble
        case Full():
            return Refused(f"the engine is full: {trouble}", status=503, code="overloaded")
        case EngineGone():
            return Refused(str(trouble), status=503, code="engine_unavailable")
        case BadJob():
            return Refused(str(trouble), code="invalid_value")
        case _:
            _LOG.error("a call failed", exc_info=trouble)
            return Refused(
                "the server failed at this call; its log says how", status=500, code="internal_error"
            )


async def body_of(receive: Receive) -> bytes:
    """Raises Left, and Refused for one that is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BODY:
            raise Refused(f"the body is larger than {MOST_BODY} bytes", status=413, code="request_too_large")
        if not message.get("more_body"):
            return b"".join(parts)


async def left(receive: Receive) -> None:
    """Returns when the client goes."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(
    send: Send,
    status: int,
    body: bytes,
    more: list[tuple[bytes, bytes]] | None = None,
    kind: tuple[bytes, bytes] = JSON,
) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body)), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def start_events(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [EVENTS]})


async def chunk(send: Send, block: bytes, *, more: bool = True) -> None:
    if block or not more:
        await send({"type": "http.response.body", "body": block, "more_body": more})
