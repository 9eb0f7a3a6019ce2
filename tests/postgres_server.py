"""A real PostgreSQL on a unix socket: one for the whole session, a database of its own for each test."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

STARTS_WITHIN = 20.0
USER = "postgres"  # who runs it where we are root: it refuses to be root's


class PostgresServer:
    """Keeps nothing safe: what is written may be lost with the machine."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._databases = folder, 0
        serving = _program("postgres")
        is_root = os.geteuid() == 0
        self._who = USER if is_root else None
        if is_root:
            shutil.chown(folder, USER)
        data = folder / "data"
        self._run("initdb", "-D", str(data), "-U", USER, "-A", "trust", "--no-sync", "--encoding=UTF8")
        options = ("fsync=off", "listen_addresses=", f"unix_socket_directories={folder}")
        command = [serving, "-D", str(data), *(word for one in options for word in ("-c", one))]
        self._process = subprocess.Popen(command, user=self._who, stderr=subprocess.DEVNULL)
        until = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.02)  # a server says nowhere that it listens

    def fresh(self) -> str:
        """The address of a database that is empty."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def execute(self, statement: str) -> None:
        with self._connected() as one:
            one.execute(statement.encode())

    def _connected(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(f"host={self._folder} user={USER} dbname=postgres", autocommit=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Whoever is connected hears nothing more; others may connect."""
        with self._connected() as one:
            own = one.info.backend_pid
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            stopped = [pid for (pid,) in one.execute(query) if pid != own]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)  # at once: whoever is connected is let go
        self._process.wait(STARTS_WITHIN)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run([_program(program), *words], user=self._who, check=True, stdout=subprocess.DEVNULL)


def _program(name: str) -> str:
    """Debian keeps them out of the way. Skips the test where it is missing."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(beside[-1]) if beside else None)
    if found is None:
        pytest.skip("there is no PostgreSQL on this machine; `apt-get install postgresql` brings it")
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-pg-") as folder:  # pytest's own are root's alone
        try:
            server = PostgresServer(Path(folder))
        except (PermissionError, LookupError) as error:
            pytest.skip(f'root may not run PostgreSQL as user "{USER}" on this machine: {error}')
        yield server
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, of each kind that is promised."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.fresh()
