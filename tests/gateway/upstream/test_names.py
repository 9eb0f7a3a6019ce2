import asyncio
import socket
import threading
from typing import Any

import pytest

from gateway.upstream import names
from gateway.upstream.names import Names

AWAY = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def at(address: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]


class Resolver:
    """Says what it is told to, in the thread that asks; hangs while it is told nothing."""

    def __init__(self, *answers: list[Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, host: str, port: int) -> list[Any]:
        self.asked.append(host)
        if host.startswith("hangs"):
            self.go.wait(10)
        said = self.answers.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


async def test_an_address_is_no_name() -> None:
    resolver = Resolver()
    for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        [found] = await Names(resolver).addresses(address, 443)
        assert found[0] == family
        assert found[4][:2] == (address, 443)
    assert resolver.asked == []


async def test_the_systems_resolver_is_asked() -> None:
    found = await Names().addresses("localhost", 443)
    assert {address[4][0] for address in found} <= {"127.0.0.1", "::1"}
    assert found


async def test_hosts_that_are_not_resolved_hold_up_no_other() -> None:
    resolver = Resolver(at("192.0.2.1"), *[AWAY] * 40)
    resolver.go.clear()
    known = Names(resolver)
    hanging = [asyncio.ensure_future(known.addresses(f"hangs{n}.test", 443)) for n in range(40)]
    async with asyncio.timeout(5):
        assert await known.addresses("good.test", 443) == at("192.0.2.1")
    assert not any(one.done() for one in hanging)
    resolver.go.set()
    ends = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(end, socket.gaierror) for end in ends)


async def test_calls_that_come_together_ask_once_and_later_ones_anew() -> None:
    resolver = Resolver(at("192.0.2.1"), at("192.0.2.2"))
    resolver.go.clear()
    known = Names(resolver)
    calls = [asyncio.ensure_future(known.addresses("hangs.test", 443)) for _ in range(20)]
    await asyncio.sleep(0)
    calls[0].cancel()  # whoever leaves takes no other with it
    resolver.go.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert ends[1:] == [at("192.0.2.1")] * 19
    assert await known.addresses("hangs.test", 443) == at("192.0.2.2")
    assert len(resolver.asked) == 2


async def test_while_the_resolver_is_away_the_last_addresses_serve(caplog: pytest.LogCaptureFixture) -> None:
    resolver = Resolver(at("192.0.2.1"), AWAY, AWAY, at("192.0.2.2"))
    known = Names(resolver)
    found = [await known.addresses("provider.test", 443) for _ in range(4)]
    assert found == [at("192.0.2.1")] * 3 + [at("192.0.2.2")]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("provider.test is not resolved (Temporary failure in name resolution)")


async def test_while_the_resolver_is_slow_the_last_addresses_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "SLOW", 0.02)
    resolver = Resolver(at("192.0.2.1"), at("192.0.2.2"), at("192.0.2.3"))
    known = Names(resolver)
    await known.addresses("hangs.test", 443)
    resolver.go.clear()
    assert await known.addresses("hangs.test", 443) == at("192.0.2.1")
    waiting = asyncio.ensure_future(known.addresses("hangs.test", 443))
    resolver.go.set()
    assert await waiting == at("192.0.2.2")


async def test_a_host_that_is_no_more_is_not_remembered() -> None:
    known = Names(Resolver(at("192.0.2.1"), UNKNOWN, AWAY))
    await known.addresses("provider.test", 443)
    for error in (UNKNOWN, AWAY):
        with pytest.raises(socket.gaierror) as raised:
            await known.addresses("provider.test", 443)
        assert raised.value.errno == error.errno


async def test_addresses_of_more_than_an_hour_ago_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Names(Resolver(at("192.0.2.1"), AWAY))
    await known.addresses("provider.test", 443)
    monkeypatch.setattr(names, "STALE", 0.0)
    with pytest.raises(socket.gaierror):
        await known.addresses("provider.test", 443)


async def test_what_can_be_no_name_is_refused() -> None:
    with pytest.raises(UnicodeError):
        await Names().addresses("a" * 64 + ".test", 443)


def test_a_lookup_that_hangs_holds_up_no_end() -> None:
    resolver = Resolver(at("192.0.2.1"))
    resolver.go.clear()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Names(resolver).addresses("hangs.test", 443)

    asyncio.run(leave())
    [thread] = [one for one in threading.enumerate() if one.name == "resolver"]
    assert thread.daemon
    resolver.go.set()
    thread.join(5)
    assert not thread.is_alive()  # it tells a loop that has ended, and that is no fault
