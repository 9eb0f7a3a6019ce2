"""Plain HTTP by way of a proxy: it is handed each request as a whole (RFC 9112, section 3.2.2), as most of them open
tunnels to port 443 alone."""

import asyncio
from collections.abc import AsyncIterable

from gateway.core.address import Origin
from gateway.core.outbox import Outbox
from gateway.upstream.answer import Answer
from gateway.upstream.connection import Connection, Owner
from gateway.upstream.failures import BadAnswer
from gateway.upstream.proxy import Proxy, place

REFUSED = 407  # the proxy wants a credential; no provider says so


class Forwarded(Connection):
    """A connection to `proxy`, for requests to `origin`."""

    __slots__ = ("_shown", "_to")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        owner: Owner,
        outbox: Outbox,
        proxy: Proxy,
        origin: Origin,
    ) -> None:
        super().__init__(loop, name, owner, outbox)
        self._to = f"http://{place(origin)}".encode()
        self._shown = proxy.head.encode()

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() == REFUSED:
            raise BadAnswer(self.name, f"the proxy answered '{REFUSED}'")
        super().on_headers_complete()

    def ask(self, answer: Answer, head: bytes, body: bytes) -> None:
        super().ask(answer, self._onward(head), body)

    async def ask_streaming(
        self, answer: Answer, head: bytes, body: AsyncIterable[bytes], length: int | None, idle: float | None
    ) -> None:
        await super().ask_streaming(answer, self._onward(head), body, length, idle)

    def _onward(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        line, _, headers = rest.partition(b"\r\n")
        return b"%b %b%b\r\n%b%b" % (method, self._to, line, self._shown, headers)
