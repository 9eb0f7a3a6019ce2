"""`gateway serve` as its own process, as an operator starts it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.running import KEY, plain_client

TOKEN = "admin-token-of-the-tests"
LISTENS = re.compile(r"listens on (http://\S+)  \(admin: (http://\S+)\)")
ENDS_WITHIN = 20.0


@dataclass
class Serving:
    """A gateway that listens. `told` is what it printed on standard output so far."""

    process: asyncio.subprocess.Process
    url: str
    admin_url: str
    log: Path
    told: list[str]

    def client(self, key: str = KEY) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        return plain_client(self.url, headers)

    async def chat(self, model: str = "smart", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        async with self.client() as client:
            return await client.post("/v1/chat/completions", json=body)

    async def admin(self, path: str, **query: str) -> Any:
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with plain_client(self.admin_url, headers) as client:
            response = await client.get(path, params=query)
            assert response.status_code == 200, response.text
            return response.json() if "json" in response.headers["content-type"] else response.text

    async def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode()
        self.told.append(line)
        return line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def listening(self) -> None:
        """Until it takes calls; what it said before its end is raised."""
        while (match := LISTENS.search(line := await self.line())) is None:
            assert line, self.log.read_text()
        self.url, self.admin_url = match[1], match[2]
        async with self.client() as client, asyncio.timeout(30):
            while (await client.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.02)  # workers come up one by one, and tell the parent alone

    async def logged(self, words: str, times: int = 1) -> None:
        """Until its log holds them so many times; it is written twice a second."""
        async with asyncio.timeout(15):
            while self.log.read_text().count(words) < times:
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        async with asyncio.timeout(ENDS_WITHIN):
            return await self.process.wait()


async def run(
    folder: Path,
    *flags: str,
    stdin: Any = asyncio.subprocess.DEVNULL,
    under: Sequence[str] = (),
    **environ: str,
) -> asyncio.subprocess.Process:
    """Start `gateway serve` over `folder`/policies, with its data in `folder`/data; `under` is a command that runs
    the one it is given."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "OTEL_"))}
    own |= {"GATEWAY_DATA_DIR": str(folder / "data"), "GATEWAY_ADMIN_TOKEN": TOKEN, **environ}
    command = [*under, sys.executable, "-m", "gateway", "serve", "--config", str(folder / "policies")]
    with (folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command, "--port", "0", "--admin-port", "0", *flags,
            stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=log, env=own,
        )  # fmt: skip


@asynccontextmanager
async def serving(folder: Path, text: str, *flags: str, **environ: str) -> AsyncIterator[Serving]:
    """A gateway over these policies; killed at the end if it still runs."""
    (folder / "policies").mkdir(exist_ok=True)
    if text:
        (folder / "policies" / "gateway.yaml").write_text(text)
    process = await run(folder, *flags, **environ)
    try:
        one = Serving(process, "", "", folder / "log", [])
        await one.listening()
        yield one
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def refused(folder: Path, text: str, *flags: str, **environ: str) -> tuple[int, str]:
    """(exit code, standard error) of a start that must fail."""
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "gateway.yaml").write_text(text)
    process = await run(folder, *flags, **environ)
    async with asyncio.timeout(20):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode, (folder / "log").read_text()


def workers_of(one: Serving) -> list[str]:
    """Process ids."""
    return processes_of(one, "gateway.app.worker")


def processes_of(one: Serving, module: str) -> list[str]:
    """Ids of those that the gateway runs this module in."""
    pid = one.process.pid
    return [child for child in _children(pid) if module in _command(child)]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _command(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has just ended
        return []
