"""Replies on the wire: the house's headers, bodies and streams, errors in the caller's dialect."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import lru_cache

from gateway.core.claim import Standing
from gateway.core.exchange import Exchange, Reply
from gateway.core.failure import GatewayError, LimitReached
from gateway.edge.asgi import Message, Scope, Send
from gateway.wire.envelope import envelope_of, render

Header = tuple[bytes, bytes]

_ALWAYS = "cache-control: private, no-store\r\nvary: authorization\r\nx-content-type-options: nosniff\r\n"
_JSON = (b"content-type", b"application/json")
_UNBUFFERED = (b"x-accel-buffering", b"no")  # nginx would keep events until 4 KiB are there; its own header
_REQUEST_ID = re.compile(rb"[\w.-]{1,128}", re.ASCII)
_UNSAFE = re.compile(r"[^\x20-\x7e]")


def request_id_of(head: Mapping[bytes, bytes], ours: str) -> str:
    """The client's `x-request-id` if it is a good one, else ours."""
    theirs = head.get(b"x-request-id", b"")
    return theirs.decode("ascii") if _REQUEST_ID.fullmatch(theirs) else ours


class Writer:
    """Writes one answer. It knows whether anything has gone out yet, so that an error after that becomes
    an event of the stream instead of a status."""

    __slots__ = (
        "_clock",
        "_ending",
        "_scope",
        "_send",
        "exchange",
        "last",
        "request_id",
        "started",
    )

    def __init__(self, send: Send, scope: Scope, request_id: str, clock: Callable[[], float]) -> None:
        self._send = send
        self._scope = scope  # its path decides how an error looks
        self._clock = clock
        self._ending: Callable[[GatewayError], bytes] | None = None
        self.request_id = request_id
        self.exchange: Exchange | None = None
        self.started = False
        self.last = 0.0  # when something last went out; 0 while nothing may be written in between

    def deliver(self, reply: Reply) -> Awaitable[None]:
        """Write the whole reply. Raises whatever its stream raises."""
        assert self.exchange is not None
        start = {
            "type": "http.response.start",
            "status": reply.status,
            "headers": reply.headers,
            "lines": house_lines(self.exchange, self._clock()),
        }
        self.started = True
        if isinstance(reply.body, bytes):
            start["body"] = reply.body
            return self._send(start)
        if reply.keep_alive:
            start["headers"] = [*reply.headers, _UNBUFFERED]
        self._ending = reply.ending
        clock = self._clock if reply.keep_alive else _never
        return self._stream(start, reply.body, self.exchange, clock)

    async def _stream(
        self, start: Message, body: AsyncIterator[bytes], exchange: Exchange, clock: Callable[[], float]
    ) -> None:
        await self._send(start)
        send = self._send
        try:
            async for chunk in body:
                self.last = 0.0
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.last = clock()
            self.last = 0.0
            await send({"type": "http.response.body", "body": b""})
        finally:
            exchange.idled += self._scope.get("gateway.unread", 0.0)

    async def fail(self, error: GatewayError, policies: str) -> bool:
        """Say what went wrong; False where nothing can be said any more and the connection must be cut. `policies` is
        their version, "" for a caller that is not known."""
        self.last = 0.0
        if not self.started:
            self.started = True
            await self._refuse(error, policies)
            return True
        if self._ending is None:
            return False
        if last := self._ending(error):
            await self._send({"type": "http.response.body", "body": last, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})
        return True

    async def nudge(self, comment: bytes) -> None:
        """A comment between two events of a silent stream, so that proxies in front keep it open."""
        await self._send({"type": "http.response.body", "body": comment, "more_body": True})

    async def _refuse(self, error: GatewayError, policies: str) -> None:
        body = render(error, envelope_of(self._scope["path"]), self.request_id)
        headers = [_JSON, *error.headers, (b"content-length", b"%d" % len(body))]
        if error.status in (408, 413):  # the rest of the body is not worth reading
            headers.append((b"connection", b"close"))
        if self.exchange is not None:
            lines = house_lines(self.exchange, self._clock())
        else:
            version = f"x-gateway-policies: {policies}\r\n" if policies else ""
            lines = f"{_ALWAYS}x-request-id: {self.request_id}\r\n{version}".encode()
        if isinstance(error, LimitReached) and error.standing is not None:
            lines += limit_lines([error.standing]).encode()
        start = {"type": "http.response.start", "status": error.status, "headers": headers, "lines": lines}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _never() -> float:
    """When something last went out, of what nothing may be written into."""
    return 0.0


def house_lines(exchange: Exchange, now: float) -> bytes:
    """What every answer to a known caller carries: lines of a head, rendered at once (a third of what the same
    as pairs costs)."""
    told, sent = "", 0
    if exchange.attempts:
        sent = sum([attempt.sent for attempt in exchange.attempts])
        attempt = exchange.attempts[-1]
        told = f"x-gateway-target: {_known(attempt.asked)}\r\n"
        if attempt.request_id:
            told += f"x-upstream-request-id: {_safe(attempt.request_id)}\r\n"
    if exchange.dropped:
        told += f"x-gateway-dropped: {_safe(', '.join(exchange.dropped))}\r\n"
    if exchange.grant.standings:
        told += limit_lines(exchange.grant.standings)
    waited = exchange.waited
    ours = max(now - exchange.arrived - waited - exchange.idled, 0.0)
    return (
        f"{_ALWAYS}x-request-id: {exchange.request_id}\r\nx-gateway-policies: {exchange.policies}\r\n"
        f"x-gateway-attempts: {sent}\r\n{told}"
        f"server-timing: gateway;dur={ours * 1000:.1f}, upstream;dur={waited * 1000:.1f}\r\n"
    ).encode()


def limit_lines(standings: Iterable[Standing]) -> str:
    """`x-ratelimit-*` of the tightest rule for requests and for tokens."""
    tightest: dict[str, Standing] = {}
    for one in standings:
        unit: str = one.limit.unit
        if unit == "concurrent":
            continue
        if unit in tightest:
            seen = tightest[unit]
            if one.remaining * seen.limit.limit >= seen.remaining * one.limit.limit:
                continue
        tightest[unit] = one
    lines = ""
    for unit, one in tightest.items():
        lines += (
            f"x-ratelimit-limit-{unit}: {one.limit.limit}\r\nx-ratelimit-remaining-{unit}: {one.remaining}\r\n"
            f"x-ratelimit-reset-{unit}: {duration(one.reset)}\r\n"
        )
    return lines


def duration(seconds: float) -> str:
    """OpenAI's way to write one: `12ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    if seconds < 60:
        return f"{int(seconds + 0.999)}s"
    minutes, rest = divmod(int(seconds + 0.999), 60)
    return f"{minutes}m{rest}s"


def _safe(text: str) -> str:
    """A header value out of text that came from elsewhere."""
    if len(text) <= 256 and text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub("?", text)[:256]


_known = lru_cache(1024)(_safe)  # of what comes again
