"""Child processes of a benchmark or a drill: started on a core of their own, measured, ended by their id."""

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KEY = "sk-loadtest-0123456789abcdef0123456789abcdef"
ADMIN = "admin-token-of-the-load-tests"
LEAST_PORT, MOST_PORT = 10_000, 32_767  # below those that Linux gives to whoever connects

POLICIES = """
kind: providers
providers: {{fake: {{type: compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: fake}}]}}}}
---
kind: access
teams: {{bench: {{models: ["*"]}}}}
keys: [{{name: bench, team: bench, hash: "sha256:{hash}"}}]
---
kind: rate-limits
rules:
  - {{id: calls, limit: {calls}, unit: requests, per: {per}, for_each: [key]}}
  - {{id: words, limit: 1000000000, unit: tokens, per: minute, for_each: [team]}}
  - {{id: at-once, limit: 100000, unit: concurrent, for_each: [team]}}
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 64k;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""


class Process:
    """One child. `core` pins it, `log` takes what it says of its errors."""

    def __init__(
        self,
        command: Sequence[str],
        core: int | None = None,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.born = time.perf_counter()
        with (log or Path(os.devnull)).open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, **(environ or {})}
            )
        if core is not None and (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(self._process.pid, {core})

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def rss_mib(self) -> float:
        return rss_mib(self.pid)

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)


def free_port() -> int:
    """Not one that the system would give to somebody else before it is used."""
    while True:
        port = LEAST_PORT + secrets.randbelow(MOST_PORT - LEAST_PORT)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def wait_for(url: str, seconds: float = 20.0, process: Process | None = None) -> float:
    """Until a GET is answered 200; the seconds it took. Raises TimeoutError, and RuntimeError for a `process` that
    ended before it could answer."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        if process is not None and process.ended is not None:
            raise RuntimeError(f"nothing answers at {url}: its process ended with {process.ended}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return time.perf_counter() - start
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            pass
        time.sleep(0.005)
    raise TimeoutError(f"nothing answers at {url}")


class Stage:
    """What a scene needs, started as asked and ended together: upstream, nginx, Redis, gateway."""

    def __init__(self, folder: Path, stack: ExitStack, seed: int = 1) -> None:
        """`seed` is for scenes that leave something to chance."""
        self.folder, self.seed, self._stack = folder, seed, stack
        self.upstream_port = free_port()

    def upstream(self, core: int | None = None) -> Process:
        command = [sys.executable, "-m", "loadtests.fake_upstream", str(self.upstream_port)]
        process = self.run(command, core)
        wait_for(f"http://127.0.0.1:{self.upstream_port}/__stats__")
        return process

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.upstream_port}/__stats__", timeout=5) as answer:
            found: dict[str, int] = json.load(answer)
            return found

    def nginx(self, core: int | None = None) -> tuple[Process, int]:
        """Raises FileNotFoundError where nginx is not installed."""
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        if not Path(program).exists():
            raise FileNotFoundError("nginx is not installed (Debian: nginx-light)")
        port = free_port()
        conf = self.folder / f"nginx-{port}.conf"
        conf.write_text(NGINX.format(folder=self.folder, upstream=self.upstream_port, port=port))
        process = self.run([program, "-c", str(conf), "-p", str(self.folder)], core)
        _wait_port(port)
        return process, port

    def redis(self, core: int | None = None) -> tuple[Process, str]:
        path = self.folder / f"redis-{free_port()}.sock"
        program = shutil.which("redis-server") or "/usr/bin/redis-server"
        process = self.run([program, "--port", "0", "--unixsocket", str(path), "--save", ""], core)
        while not path.exists():
            time.sleep(0.01)
        return process, f"unix://{path}"

    def policies(self, calls: int = 100_000_000, per: str = "minute") -> Path:
        folder = Path(tempfile.mkdtemp(prefix="policies-", dir=self.folder))
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        text = POLICIES.format(port=self.upstream_port, hash=digest, calls=calls, per=per)
        (folder / "gateway.yaml").write_text(text)
        return folder

    def gateway(
        self,
        policies: Path,
        environ: Mapping[str, str] | None = None,
        *,
        core: int | None = None,
        workers: int = 1,
        log: Path | None = None,
    ) -> "Gateway":
        return Gateway(self, policies, core, workers, environ or {}, log)

    def run(
        self,
        command: Sequence[str],
        core: int | None = None,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Process:
        """Ended with the stage, whatever becomes of it."""
        return self._stack.enter_context(Process(command, core, environ, log))


class Gateway:
    """A gateway process and its two ports."""

    def __init__(
        self,
        stage: Stage,
        policies: Path,
        core: int | None,
        workers: int,
        environ: Mapping[str, str],
        log: Path | None,
    ) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.data_dir = Path(environ.get("GATEWAY_DATA_DIR", str(stage.folder / f"data-{self.port}")))
        command = [
            sys.executable, "-m", "gateway", "serve", "--config", str(policies), "--port", str(self.port),
            "--admin-port", str(self.admin_port), "--workers", str(workers),
        ]  # fmt: skip
        own = {"GATEWAY_DATA_DIR": str(self.data_dir), "GATEWAY_ADMIN_TOKEN": ADMIN}
        self.process = stage.run(command, core, {**own, **environ}, log)
        self.cold_start = wait_for(f"http://127.0.0.1:{self.port}/health/ready", process=self.process)

    def admin(self, path: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port}{path}", headers={"authorization": f"Bearer {ADMIN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def _wait_port(port: int) -> None:
    for _ in range(1000):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port}")


async def until(happens: Any, seconds: float) -> bool:
    """Whether `happens()` came true within so many seconds."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if happens():
            return True
        await asyncio.sleep(0.02)
    return False
