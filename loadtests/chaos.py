"""Everything at once: providers and clients that misbehave at random, edits of the policies, a Redis that stops. What
must hold is looked at when all is quiet again. The seed decides what is drawn, not what comes of it: times differ."""

import asyncio
import json
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import uvloop

from loadtests.children import KEY, Gateway, Process, Stage, free_port, until
from loadtests.generator import Connection
from loadtests.moody import Moody

CLIENTS = 24
BAD = 0.35  # of the calls that reach a provider
PATIENCE = 20.0  # seconds that a client waits: longer than any call may take
POLICIES = """
kind: providers
providers:
  a: {{type: compatible, base_url: "http://127.0.0.1:{a}/v1", api_key: [first, second]}}
  b: {{type: compatible, base_url: "http://127.0.0.1:{b}/v1"}}
---
kind: models
models:
  "*": {{targets: [{{provider: a}}, {{provider: b}}], timeouts: {{connect: 1s, first_token: 2s, idle: 2s, total: 6s}}}}
---
kind: rate-limits
rules:
  - {{id: calls, limit: {calls}, unit: requests, per: minute, for_each: [key]}}
  - {{id: at-once, limit: 1000, unit: concurrent, for_each: [team]}}
"""
_LOGGED = re.compile(
    r"Traceback|never retrieved|never awaited|was destroyed|failed inside|application (?:failed|left)|could not be kept"
)
_TOLD = re.compile(rb"<(\w+)>")
# What ends a stream well, by the path: not every server of chat says [DONE].
_ENDS = {
    "/v1/chat/completions": re.compile(rb'"finish_reason": ?"stop"'),
    "/v1/messages": re.compile(b"message_stop"),
    "/v1/responses": re.compile(rb"response\.completed"),
}
_ERROR = re.compile(rb'"error": ?[{"]')


def drill(stage: Stage, seconds: float) -> tuple[bool, str]:
    """Misbehaving providers and clients, edits, a Redis that stops: each call in the ledger once, every client that
    stayed is answered, nothing is left in flight, nothing odd is logged, exit code 0."""
    return uvloop.run(Chaos(stage).run(seconds or 20.0))


class Call:
    """One request, and what its client may be told."""

    def __init__(self, dice: random.Random, number: int) -> None:
        self.ident, self.path = f"call{number}", dice.choice(tuple(_ENDS))
        self.streams = dice.random() < 0.6
        asked: dict[str, object] = {"model": dice.choice(("one", "two")), "stream": self.streams}
        text = f"<<{self.ident}>>" + "y" * dice.choice((0, 0, 0, 3000, 90_000))
        if self.path == "/v1/responses":
            asked |= {"input": text, "max_output_tokens": 20}
        else:
            asked |= {"messages": [{"role": "user", "content": text}], "max_tokens": 20}
        body = json.dumps(asked).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
            f"x-request-id: {self.ident}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.raw = head.encode() + body

    def wrong(self, status: int, said: bytes, moods: list[str]) -> str:
        """What is wrong with an answer to a client that stayed; empty for one as it should be."""
        if set(_TOLD.findall(said)) - {self.ident.encode()}:
            return "answers of others"
        if "status" in moods and status != 200:
            return ""  # it may be the provider's own, whatever that says
        if status != 200 or not self.streams:
            try:
                is_error = "error" in json.loads(said) and status != 200
            except ValueError:
                return "answers that are no JSON"
            return "" if is_error or status == 200 else "refusals without an error"
        return "" if _ENDS[self.path].search(said) or _ERROR.search(said) else "streams without an end"


class Hearing(Connection):
    """One that keeps what it is told."""

    def put(self, call: Call) -> "asyncio.Future[int]":
        self._request, self.said = call.raw, bytearray()
        return self.ask()

    def on_body(self, body: bytes) -> None:
        self.said += body


class Chaos:
    def __init__(self, stage: Stage) -> None:
        self._stage, self._dice = stage, random.Random(stage.seed)
        self._ports = {"a": free_port(), "b": free_port()}
        self._moody = [Moody(self._dice) for _ in self._ports]
        self._file = Path()
        self._calls = self._stayed = 0
        self._wrong: Counter[str] = Counter()
        self._is_over = False

    async def run(self, seconds: float) -> tuple[bool, str]:
        redis, url = self._stage.redis()
        self._file = self._stage.policies() / "gateway.yaml"
        self._access = self._file.read_text().split("---")[2]
        self._edit(0)
        log = self._stage.folder / "log"
        environ = {"GATEWAY_REDIS_URL": url, "GATEWAY_DRAIN_TIMEOUT": "10s"}
        gateway = self._stage.gateway(self._file.parent, environ, workers=2, log=log)
        servers = [
            await one.listen(port) for one, port in zip(self._moody, self._ports.values(), strict=True)
        ]
        for one in self._moody:
            one.bad = BAD
        jobs = [asyncio.ensure_future(self._client(gateway.port)) for _ in range(CLIENTS)]
        await self._disturb(redis, time.perf_counter() + seconds)
        self._is_over = True
        await asyncio.gather(*jobs)
        await self._look(gateway)
        gateway.process.signal(signal.SIGTERM)
        code = await asyncio.to_thread(gateway.process.wait, 20)
        self._wrong["exit code"] += code != 0
        self._wrong["lines of the log"] += len(_LOGGED.findall(log.read_text(errors="replace")))
        for server in servers:
            server.close()
        wrong = {what: count for what, count in self._wrong.items() if count}
        told = f"seed {self._stage.seed}: {self._calls} calls, {self._stayed} clients stayed for their answer"
        return not wrong, f"{told}; wrong: {wrong or 'nothing'}"

    async def _disturb(self, redis: Process, end: float) -> None:
        """Good edits and bad ones, and a Redis that keeps silent for a while."""
        number = 0
        while time.perf_counter() < end:
            await asyncio.sleep(self._dice.uniform(0.2, 1))
            number += 1
            self._edit(number)
            if self._dice.random() < 0.3:
                self._file.write_text(self._file.read_text()[: self._dice.randrange(300)])
            if self._dice.random() < 0.3:
                redis.signal(signal.SIGSTOP)
                await asyncio.sleep(self._dice.choice((0.03, 0.3, 1.5)))
                redis.signal(signal.SIGCONT)
        self._edit(0)

    def _edit(self, number: int) -> None:
        text = POLICIES.format(**self._ports, calls=10**6 + number)
        self._file.write_text(f"{text}---{self._access}")

    async def _client(self, port: int) -> None:
        """One after the other, until all is over."""
        while not self._is_over:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Hearing(b""), "127.0.0.1", port
            )
            try:
                for _ in range(self._dice.choice((1, 1, 3, 6))):
                    if not connection.stays or not await self._call(connection):
                        break
            finally:
                connection.transport.abort()

    async def _call(self, connection: Hearing) -> bool:
        """Whether its client stays for another."""
        self._calls += 1
        call = Call(self._dice, self._calls)
        answer = connection.put(call)
        if self._dice.random() < 0.25:
            await asyncio.wait([answer], timeout=self._dice.choice((0, 0.001, 0.02, 0.3, 2)))
            answer.cancel()
            return False
        self._stayed += 1
        try:
            async with asyncio.timeout(PATIENCE):
                status = await answer
        except (TimeoutError, ConnectionError) as error:
            self._wrong[
                "clients that were left waiting" if isinstance(error, TimeoutError) else "answers cut"
            ] += 1
            return False
        moods = [mood for one in self._moody for mood in one.asked.get(call.ident, ())]
        if wrong := call.wrong(status, bytes(connection.said), moods):
            self._wrong[wrong] += 1
        return True

    async def _look(self, gateway: Gateway) -> None:
        """What must hold once all is quiet."""

        def is_quiet() -> bool:
            return not any(target["in_flight"] for target in gateway.admin("/admin/v1/targets")["targets"])

        self._wrong["calls left in flight"] += not await until(is_quiet, 10)
        gateway.admin("/admin/v1/usage")  # brings in what is spooled
        with closing(sqlite3.connect(gateway.data_dir / "usage.db")) as database:
            rows = Counter(ident for (ident,) in database.execute("SELECT request_id FROM usage"))
        reached = {ident for one in self._moody for ident in one.asked}
        self._wrong["calls not once in the ledger"] += sum(rows[ident] != 1 for ident in reached)
