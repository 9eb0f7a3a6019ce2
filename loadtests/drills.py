"""Fault drills: one fault each, and what must hold. Bounded in time and number; each prints its verdict."""

import asyncio
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import uvloop

from loadtests import chaos, generator, nonsense
from loadtests.bench import body
from loadtests.children import KEY, Gateway, Stage, until

PATH = "/v1/chat/completions"
Verdict = tuple[bool, str]


def run(name: str, seconds: float, seed: int = 1) -> int:
    names = sorted(DRILLS) if name == "all" else [name]
    good = True
    for one in names:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            stage = Stage(Path(folder), stack, seed)
            stage.upstream()
            held, told = DRILLS[one](stage, seconds)
        good = good and held
        print(f"{'holds' if held else 'FAILS'}  {one}: {told}", flush=True)
    return 0 if good else 1


def hang_ups(stage: Stage, seconds: float) -> Verdict:
    """1,000 clients leave at random points: upstreams closed, slots free, every call in the ledger once."""
    gateway = stage.gateway(stage.policies())
    requests = [
        _request(gateway, "sse-200-5", stream=True),
        _request(gateway, "slow-100"),
        _request(gateway, "now"),
    ]
    left = uvloop.run(generator.hang_ups(gateway.port, requests, 1000))
    idle = uvloop.run(until(lambda: stage.stats()["open"] <= _idle(gateway) + 1, 3))
    time.sleep(0.5)
    upstream = stage.stats()["requests"]
    calls, charged = _ledger(gateway)
    # A client may leave while its call waits for a connection: such a call is in the ledger, and free.
    held = idle and charged == upstream <= calls <= 1000
    told = f"{left} left early; upstream saw {upstream} calls, the ledger has {calls} and charges {charged}"
    return held, f"{told}; upstreams closed: {idle}"


def exact(stage: Stage, seconds: float) -> Verdict:
    """5,000 requests from 4 workers against 1,000 a day: exactly 1,000 admitted."""
    _, url = stage.redis()
    gateway = stage.gateway(stage.policies(1000, "day"), {"GATEWAY_REDIS_URL": url}, workers=4)
    request = _request(gateway, "now")
    result = uvloop.run(generator.constant_rate(gateway.port, request, 1500, 5000 / 1500))
    admitted = result.kinds.get("200", 0)
    # Evenly refilled, a day's limit of 1,000 gives back one unit each 86 s: none within the run.
    return admitted == 1000 == stage.stats()[
        "requests"
    ], f"{admitted} of {result.requests} admitted, {result.kinds}"


def reload(stage: Stage, seconds: float) -> Verdict:
    """A route and a limit that change together, rewritten every second under load: no call fails, and what each
    is told of both comes out of one and the same edit."""
    policies = stage.policies()
    file = policies / "gateway.yaml"
    text = file.read_text()
    file.write_text(_edited(text, 0))
    gateway = stage.gateway(policies)
    duration = seconds or 60.0

    async def rewrite() -> None:
        for number in range(1, int(duration)):
            await asyncio.sleep(1)
            file.write_text(_edited(text, number))

    async def both() -> list[generator.Head]:
        heads = generator.heads(gateway.port, _request(gateway, "now"), 4, duration)
        found, _ = await asyncio.gather(heads, rewrite())
        return found

    found = uvloop.run(both())
    failed = sum(status != 200 for status, _ in found)
    told = {tuple(head.get(name, b"") for name in _OF_AN_EDIT) for _, head in found}
    routes, limits, versions = (len(set(one)) for one in zip(*told, strict=True))
    torn = [one for one in told if int(one[0].rpartition(b"-")[2]) != int(one[1]) - _MANY]
    held = not failed and not torn and len(told) == routes == limits == versions >= duration * 0.8
    return (
        held,
        f"{len(found)} calls, {failed} failed, {len(torn)} saw half an edit, {versions} policy sets seen",
    )


_MANY = 100_000_000  # calls a minute
_OF_AN_EDIT = (b"x-gateway-target", b"x-ratelimit-limit-requests", b"x-gateway-policies")


def _edited(text: str, number: int) -> str:
    target = text.replace("{provider: fake}", f"{{provider: fake, model: edit-{number}}}")
    return target.replace(f"limit: {_MANY},", f"limit: {_MANY + number},")


def sigterm(stage: Stage, seconds: float) -> Verdict:
    """SIGTERM under load, plain and streamed: every accepted call is answered, exit code 0 within the drain time."""
    gateway = stage.gateway(stage.policies(), {"GATEWAY_DRAIN_TIMEOUT": "10s"})

    async def scene() -> tuple[generator.Streamed, Counter[str], float]:
        stream, plain = _request(gateway, "sse-100-20", stream=True), _request(gateway, "slow-20")
        streaming = asyncio.ensure_future(generator.streams(gateway.port, stream, 200, opening=0.5))
        asking = asyncio.ensure_future(generator.until_closed(gateway.port, plain, 64))
        await until(lambda: stage.stats()["streams"] == 200, 5)
        gateway.process.signal(signal.SIGTERM)
        start = time.perf_counter()
        return await streaming, await asking, start

    streamed, kinds, start = uvloop.run(scene())
    code = gateway.process.wait(15)
    took = time.perf_counter() - start
    upstream = stage.stats()["requests"]
    held = streamed.whole == streamed.streams and code == 0 and upstream == kinds["200"] + streamed.whole
    told = f"{streamed.whole} of {streamed.streams} streams whole; plain calls: {dict(kinds)}; "
    return held, told + f"upstream saw {upstream}, exit code {code} after {took:.1f} s"


def kill9(stage: Stage, seconds: float) -> Verdict:
    """kill -9 under load: after a restart the ledger has each call the upstream saw, once."""
    policies = stage.policies()
    first = stage.gateway(policies)

    async def scene() -> None:
        load = asyncio.ensure_future(generator.saturate(first.port, _request(first, "slow-20"), 32, 3))
        await asyncio.sleep(1.5)
        first.process.signal(signal.SIGKILL)
        await asyncio.wait([load], timeout=5)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)

    uvloop.run(scene())
    first.process.wait(5)
    second = stage.gateway(policies, {"GATEWAY_DATA_DIR": str(first.data_dir)})
    time.sleep(1)
    total = second.admin("/admin/v1/usage")["total"]
    upstream = stage.stats()["requests"]
    # A call may be written down and killed before its request left: the ledger may not have fewer.
    held = upstream <= total["calls"] <= upstream + 32
    return (
        held,
        f"upstream saw {upstream}, the ledger has {total['calls']}, of them estimated {total['estimated']}",
    )


def redis_gone(stage: Stage, seconds: float) -> Verdict:
    """Redis stops answering in the middle: no call fails, none waits longer than 50 ms for it."""
    process, url = stage.redis()
    gateway = stage.gateway(stage.policies(), {"GATEWAY_REDIS_URL": url})

    async def scene() -> generator.Result:
        load = asyncio.ensure_future(generator.constant_rate(gateway.port, _request(gateway, "now"), 200, 6))
        await asyncio.sleep(2)
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        process.signal(signal.SIGCONT)
        return await load

    result = uvloop.run(scene())
    # 50 ms for Redis and 50 for a noisy machine.
    held = result.failed == 0 and result.worst < 100
    return (
        held,
        f"{result.requests} calls, {result.failed} failed, worst {result.worst} ms, p99 {result.p99} ms",
    )


def bad_input(stage: Stage, seconds: float) -> Verdict:
    """What means nothing is a 4xx within 50 ms and reaches nobody, and the next call is well."""
    gateway = stage.gateway(stage.policies())

    async def scene() -> list[nonsense.Told]:
        said = nonsense.requests(gateway.port)
        return [await nonsense.say(gateway.port, name, raw, 20) for name, raw in said]

    told = uvloop.run(scene())
    reached = stage.stats()["requests"]
    well = uvloop.run(generator.saturate(gateway.port, _request(gateway, "now"), 1, 0.1)).failed == 0
    held = well and not reached and all(one.worst_ms < 50 for one in told)
    held = held and all(400 <= status < 500 for one in told for status in one.statuses)
    rows = "; ".join(f"{one.name}: {sorted(one.statuses)} {one.worst_ms} ms" for one in told)
    return held, f"worst of 20 each: {rows}; upstream saw {reached}"


def _request(gateway: Gateway, model: str, *, stream: bool = False) -> bytes:
    return generator.request_bytes(gateway.port, PATH, body(model, stream), KEY)


def _ledger(gateway: Gateway) -> tuple[int, int]:
    """(calls, calls that are charged)."""
    gateway.admin("/admin/v1/usage")  # brings in what is spooled
    with closing(sqlite3.connect(gateway.data_dir / "usage.db")) as database:
        found = database.execute("SELECT count(*), coalesce(sum(prompt > 0), 0) FROM usage").fetchone()
    return int(found[0]), int(found[1])


def _idle(gateway: Gateway) -> int:
    """Keep-alive connections the gateway may hold to the upstream: those are not calls."""
    return 64


DRILLS: dict[str, Callable[[Stage, float], Any]] = {
    "bad-input": bad_input,
    "chaos": chaos.drill,
    "exact": exact,
    "hangups": hang_ups,
    "kill9": kill9,
    "redis-gone": redis_gone,
    "reload": reload,
    "sigterm": sigterm,
}
