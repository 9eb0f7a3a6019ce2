"""A real Redis on a unix socket: one for the whole session, or one of its own for a test that hurts it."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

STARTS_WITHIN = 10.0


class RedisServer:
    """Keeps nothing on disk: a restarted one is empty."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("there is no redis-server on this machine; `apt-get install redis-server` brings it")
        settings = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([binary, *settings, *self._options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.005)  # a server says nowhere that it listens

    def client(self) -> redis.Redis:
        retry = Retry(NoBackoff(), 0)  # by itself the library waits for seconds
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True, retry=retry)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.resume()
        self.kill()


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def redis_server(session_redis: RedisServer) -> RedisServer:
    """Shared and emptied: for tests that leave it running."""
    with session_redis.client() as client:
        client.flushall()
        client.script_flush()
    return session_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """For tests that stop, kill or starve it."""
    server = RedisServer(tmp_path)
    yield server
    server.close()
