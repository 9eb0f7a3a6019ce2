"""What the names of hosts resolve to, of this moment or, while the resolver is away, of the last hour.

The system's resolver blocks, for half a minute where its server is silent. So each host is asked for in a thread of its
own, by one at a time: no other host waits behind it, and no end of the process.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

SLOW = 0.5  # seconds after which addresses that are known need not wait for new ones
STALE = 3600.0  # seconds for which they do so; RFC 8767 (section 5) allows a day and more, but for names under TLS

Resolve = Callable[[str, int], list[Any]]
Place = tuple[str, int]

_LOG = logging.getLogger("gateway.upstream")


def resolve(host: str, port: int) -> list[Any]:
    """Blocks. Raises OSError, and UnicodeError for what can be no name."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Names:
    """Addresses of hosts, as `socket.getaddrinfo` gives them. Used inside one running loop."""

    def __init__(self, resolve: Resolve = resolve) -> None:
        self._resolve = resolve
        self._asked: dict[Place, asyncio.Future[list[Any]]] = {}
        self._known: dict[Place, tuple[float, list[Any]]] = {}  # since when, in seconds of the loop
        self._missed: set[Place] = set()  # of which the log was told

    async def addresses(self, host: str, port: int) -> list[Any]:
        """Raises OSError, and UnicodeError for what can be no name.

        Where the resolver fails for a while or is slow, what it said within the last hour is believed; that there is no
        such host is an answer, and believed at once."""
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name
        place = host, port
        lookup = self._asked.get(place) or self._ask(place)
        known = self._last(place)
        await asyncio.wait((lookup,), timeout=SLOW if known else None)
        if not lookup.done():
            return self._instead(place, known, "the resolver is slow")
        error = lookup.exception()
        if error is None:
            return lookup.result()
        if known and isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            return self._instead(place, known, str(error.strerror))
        raise error

    def _ask(self, place: Place) -> "asyncio.Future[list[Any]]":
        loop = asyncio.get_running_loop()
        lookup: asyncio.Future[list[Any]] = loop.create_future()

        def ask() -> None:
            try:
                told = partial(self._found, place, self._resolve(*place))
            except (OSError, UnicodeError) as error:
                told = partial(self._failed, place, error)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(told)

        threading.Thread(target=ask, name="resolver", daemon=True).start()
        self._asked[place] = lookup
        return lookup

    def _found(self, place: Place, addresses: list[Any]) -> None:
        self._known[place] = asyncio.get_running_loop().time(), addresses
        self._missed.discard(place)
        self._asked.pop(place).set_result(addresses)

    def _failed(self, place: Place, error: Exception) -> None:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
            self._known.pop(place, None)
        lookup = self._asked.pop(place)
        lookup.set_exception(error)
        lookup.exception()  # whoever asked may have left

    def _last(self, place: Place) -> list[Any]:
        since, addresses = self._known.get(place, (0.0, []))
        return addresses if asyncio.get_running_loop().time() - since < STALE else []

    def _instead(self, place: Place, known: list[Any], why: str) -> list[Any]:
        if place not in self._missed:
            self._missed.add(place)
            _LOG.warning(
                "%s is not resolved (%s): its last addresses are used, for an hour at most", place[0], why
            )
        return known
