"""Two processes that compute one model together, from the HTTP call to the word."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.local_backend.test_process import wait_gone
from tests.local_backend.test_server import client_of, wait_ready
from tests.shared import shared

pytest.importorskip("torch", reason="torch is not installed: make .make/local")

STORY = ", there was a little girl named Lily. She loved to play outside in the park."
BODY = {"model": "m", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 60}


class Program:
    def __init__(self, socket: Path) -> None:
        self.socket = str(socket)
        command = [sys.executable, "-m", "local_backend", "--model", str(shared("models/stories260K"))]
        command += ["--served-name", "m", "--tensor-parallel", "2", "--listen", f"unix:{socket}"]
        self.process = subprocess.Popen([*command, "--exit-with-stdin"], stdin=subprocess.PIPE)
        wait_ready(socket)

    def complete(self, **more: Any) -> str:
        with client_of(self.socket) as client:
            found: str = client.post("/v1/completions", json=BODY | more).json()["choices"][0]["text"]
            return found

    @property
    def ranks(self) -> list[int]:
        """The leader, and who follows."""
        (leader,) = children(self.process.pid)
        return [leader, *children(leader)]


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Three seconds: torch is loaded twice."""
    started = Program(tmp_path_factory.mktemp("team") / "engine.sock")
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    started.process.kill()
    started.process.wait(10)


def test_they_tell_the_story_that_one_tells_alone_in_a_batch_and_once_more(program: Program) -> None:
    assert len(program.ranks) == 2
    told = program.complete()
    assert told.startswith(STORY)
    assert program.complete() == told, "out of the prefix cache"
    with ThreadPoolExecutor(8) as threads:
        mates = [threads.submit(program.complete, prompt=f"Once upon a time, {'a ' * n}") for n in range(7)]
        assert threads.submit(program.complete).result() == told
        assert all(mate.result() for mate in mates)
    assert len(program.complete(n=2, temperature=1, seed=1)) > 20


def test_a_follower_that_is_killed_takes_the_engine_with_it_and_both_come_back(program: Program) -> None:
    leader, follower = program.ranks
    begun, ends = threading.Event(), list[tuple[float, str]]()

    def read() -> None:
        asked = BODY | {"stream": True, "max_tokens": 400, "ignore_eos": True}
        with (
            client_of(program.socket) as client,
            client.stream("POST", "/v1/completions", json=asked) as came,
        ):
            lines = (line for line in came.iter_lines() if line)
            next(lines)
            begun.set()
            *_, last = lines
            ends.append((time.perf_counter(), last))

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(20)
    killed = time.perf_counter()
    os.kill(follower, signal.SIGKILL)
    reader.join(20)
    [(when, last)] = ends
    assert when - killed < 1
    assert "engine_unavailable" in last
    wait_gone(leader)
    wait_ready(Path(program.socket))
    assert program.complete().startswith(STORY)
    assert not {leader, follower} & set(program.ranks)


def test_followers_end_with_their_leader(program: Program) -> None:
    leader, follower = program.ranks
    os.kill(leader, signal.SIGKILL)
    wait_gone(follower)
