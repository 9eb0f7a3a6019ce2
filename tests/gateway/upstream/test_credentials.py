import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Command, Credential, Source, StepResult, Unobtainable, WriteFile
from gateway.core.meters import Meters
from gateway.upstream import credentials as room
from gateway.upstream.client import Upstream
from gateway.upstream.credentials import Credentials
from gateway.upstream.failures import NoCredential
from tests.scripted import Act, Asked, Provider, answer

CALL = WireRequest(Origin("http", "127.0.0.1", 1), b"POST /x HTTP/1.1\r\n", b"{}", 2)


@dataclass(frozen=True)
class Endpoint:
    """Asks a token endpoint; `path` is a file to be read before."""

    port: int
    path: str = ""
    name = "test"

    def obtain(
        self, now: float, environ: Mapping[str, str]
    ) -> Generator[WireRequest | Path, StepResult, Credential]:
        secret = (yield Path(self.path)) if self.path else StepResult(200, b"")
        if secret.status != 200:
            raise Unobtainable(f"{self.path}: {secret.body.decode()}")
        head = b"POST /token HTTP/1.1\r\nhost: x\r\n"
        told = yield WireRequest(Origin("http", "127.0.0.1", self.port), head, secret.body, len(secret.body))
        if told.status != 200:
            raise Unobtainable(f"it answered {told.status}")
        token = orjson.loads(told.body)
        return Credential(token["access_token"], token.get("expires_in"))

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        return b"authorization: Bearer %b\r\n" % value.encode()


@dataclass(frozen=True)
class Ready:
    """Has its credential without a step, and for ever."""

    name = "ready"

    def obtain(
        self, now: float, environ: Mapping[str, str]
    ) -> Generator[WireRequest | Path, StepResult, Credential]:
        yield from ()
        return Credential(environ["KEY"])

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        return b"x-key: %b at %d\r\n" % (value.encode(), now)


@dataclass(frozen=True)
class Program:
    """Has its credential written by a program."""

    line: str
    name = "program"

    def obtain(self, now: float, environ: Mapping[str, str]) -> Generator[Command, StepResult, Credential]:
        told = yield Command(self.line)
        if told.status != 200:
            raise Unobtainable(told.body.decode())
        return Credential(told.body.decode().strip())

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        return f"x-key: {value}\r\n".encode()


def token(text: str, seconds: float = 3600) -> Act:
    return answer({"access_token": text, "expires_in": seconds})


def port_of(provider: Provider) -> int:
    return int(provider.url.split(":")[2].partition("/")[0])


@asynccontextmanager
async def keeping(*sources: Source, run: bool = True) -> AsyncIterator[tuple[Credentials, list[str], Meters]]:
    upstream, told, meters = Upstream(), [], Meters()
    kept = Credentials(upstream, {"KEY": "k"}, lambda: 1e9, meters, lambda level, text: told.append(text))
    kept.keep(sources)
    job = asyncio.ensure_future(kept.run()) if run else None
    try:
        yield kept, told, meters
    finally:
        if job is not None:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        await kept.aclose()
        await upstream.aclose()


async def test_a_credential_is_there_before_any_call_and_found_without_waiting(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    arrived = asyncio.Event()

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await token("a")(asked, writer)
        arrived.set()

    async with Provider([act]) as provider:
        async with keeping(source := Endpoint(port_of(provider), str(secret))) as (kept, _, meters):
            await arrived.wait()
            await kept.wait(source, CALL)
            shown = kept.current(source, CALL)
            assert shown == replace(CALL, head=CALL.head + b"authorization: Bearer a\r\n")
        assert [one.body for one in provider.asked] == [b"s3cret"]
        assert meters.credentials.values == {("ok",): 1, ("failed",): 0}


async def test_calls_that_come_together_share_one_renewal() -> None:
    async with Provider([token("a")]) as provider:
        async with keeping(run=False) as (kept, _, _):
            sources = [Endpoint(port_of(provider)) for _ in range(20)]  # equal, not the same
            assert kept.current(sources[0], CALL) is None
            came = await asyncio.gather(*(kept.wait(source, CALL) for source in sources))
            assert {one.head for one in came} == {CALL.head + b"authorization: Bearer a\r\n"}
        assert len(provider.asked) == 1


async def test_it_is_renewed_before_it_expires_and_no_call_ever_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "SOONEST", 0.01)
    asked_again = asyncio.Event()

    async def second(asked: Asked, writer: asyncio.StreamWriter) -> None:
        asked_again.set()
        await token("b")(asked, writer)

    async with Provider([token("a", 0.5), second]) as provider:
        async with keeping(source := Endpoint(port_of(provider))) as (kept, _, _):
            await kept.wait(source, CALL)
            await asked_again.wait()
            seen: set[bytes] = set()
            while b"Bearer b" not in str(seen).encode():
                shown = kept.current(source, CALL)
                assert shown is not None, "the old one is good until the new one is there"
                seen.add(shown.head[-10:])
                await asyncio.sleep(0)


async def test_a_renewal_that_fails_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FIRST_PAUSE", 0.02)
    async with Provider([answer({}, 500), answer(b"no json"), token("a")]) as provider:
        async with keeping(source := Endpoint(port_of(provider)), run=False) as (kept, told, meters):
            with pytest.raises(NoCredential, match=r"^it answered 500"):
                await kept.wait(source, CALL)
            with pytest.raises(NoCredential, match=r"^it answered 500"):  # at once: it has just failed
                await kept.wait(source, CALL)
            assert len(provider.asked) == 1
            job = asyncio.ensure_future(kept.run())
            while kept.current(source, CALL) is None:
                await asyncio.sleep(0.005)
            job.cancel()
        assert meters.credentials.values == {("ok",): 1, ("failed",): 2}
        assert "no credential of test: it answered 500; next try in 0.02 s" in told[0]


async def test_calls_that_were_refused_together_share_one_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FRESH", 0.0)
    async with Provider([token("a"), token("b"), answer({}, 500)]) as provider:
        async with keeping(source := Endpoint(port_of(provider)), run=False) as (kept, _, _):
            await kept.wait(source, CALL)
            shown = kept.number(source)
            assert await asyncio.gather(*(kept.renew(source, shown) for _ in range(20))) == [True] * 20
            assert await kept.renew(source, shown), "one whose refusal comes late finds the new one"
            current = kept.current(source, CALL)
            assert current is not None
            assert current.head.endswith(b"Bearer b\r\n")
            assert not await kept.renew(source, kept.number(source)), "there is no other to be had"
            assert not await kept.renew(Ready(), 0), "nor for who is not kept"
            assert (kept.number(Ready()), len(provider.asked)) == (0, 3)


async def test_what_is_refused_when_it_is_fresh_is_not_renewed() -> None:
    async with Provider([token("a")]) as provider:
        async with keeping(source := Endpoint(port_of(provider)), run=False) as (kept, _, _):
            await kept.wait(source, CALL)
            assert not await kept.renew(source, kept.number(source))
            assert len(provider.asked) == 1


async def test_a_call_that_gives_up_waiting_does_not_end_the_renewal_for_the_others() -> None:
    release = asyncio.Event()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await token("a")(asked, writer)

    async with Provider([slow]) as provider:
        async with keeping(source := Endpoint(port_of(provider)), run=False) as (kept, _, _):
            impatient, patient = (asyncio.ensure_future(kept.wait(source, CALL)) for _ in range(2))
            await asyncio.sleep(0)
            impatient.cancel()
            release.set()
            assert (await patient).head.endswith(b"Bearer a\r\n")
        assert len(provider.asked) == 1


async def test_who_is_no_longer_named_is_no_longer_kept() -> None:
    async with Provider() as provider:
        async with keeping(Ready()) as (kept, _, _):
            shown = await kept.wait(Ready(), CALL)
            assert shown.head == CALL.head + b"x-key: k at 1000000000\r\n"
            kept.keep([Ready()])
            assert kept.current(Ready(), CALL) == shown
            kept.keep([gone := Endpoint(port_of(provider))])
            assert kept.current(Ready(), CALL) is None
            waiting = asyncio.ensure_future(kept.wait(gone, CALL))
            await asyncio.sleep(0)
            kept.keep([])
            with pytest.raises(NoCredential, match="the policies changed meanwhile"):
                await waiting


async def test_what_cannot_be_had_says_why(tmp_path: Path) -> None:
    async with keeping(run=False) as (kept, _, _):
        with pytest.raises(NoCredential, match="/nowhere: No such file"):
            await kept.wait(Endpoint(1, str(tmp_path / "nowhere")), CALL)
        with pytest.raises(NoCredential, match="it answered 0"):
            await kept.wait(Endpoint(1), CALL)


async def test_a_program_is_run_without_a_shell_and_what_it_complains_of_is_kept_back() -> None:
    async with keeping(run=False) as (kept, told, _):
        ready = await kept.wait(Program("echo 'a  b' $HOME"), CALL)
        assert ready.head.endswith(b"x-key: a  b $HOME\r\n")
        for line, why in (
            ("sh -c 'echo secret >&2; exit 3'", "it ended with 3"),
            ("/no/such/program", "it cannot be run"),
            ("'", "it cannot be run"),
            ("", "it cannot be run"),
        ):
            with pytest.raises(NoCredential, match=why):
                await kept.wait(Program(line), CALL)
    assert not any("secret" in text for text in told)


async def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "RUNS", 0.2)
    marks = tmp_path / "pid"
    async with keeping(run=False) as (kept, _, _):
        with pytest.raises(NoCredential, match="it has not ended"):
            await kept.wait(Program(f"sh -c 'echo $$ > {marks}; exec sleep 60'"), CALL)
    assert not (Path("/proc") / marks.read_text().strip()).exists()


@dataclass(frozen=True)
class Kept:
    """Writes what it has to a file."""

    file: str
    name = "kept"

    def obtain(self, now: float, environ: Mapping[str, str]) -> Generator[WriteFile, StepResult, Credential]:
        told = yield WriteFile(Path(self.file), b"s3cret")
        return Credential(f"{told.status} {told.body.decode()}")

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        return f"x-key: {value}\r\n".encode()


async def test_what_is_to_be_kept_is_written_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "sso" / "cache.json"
    async with keeping(run=False) as (kept, _, _):
        came = await kept.wait(Kept(str(file)), CALL)
        assert came.head.endswith(b"x-key: 200 \r\n")
        assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"s3cret", 0o600)
        assert list(file.parent.iterdir()) == [file]
        came = await kept.wait(Kept(str(file / "below a file")), CALL)
        assert came.head.endswith(b"x-key: 0 File exists\r\n") or b"Not a directory" in came.head
