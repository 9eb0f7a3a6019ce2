"""The whole program, two processes of it, with the real engine: who holds torch, and who ends with whom."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local_backend.__main__ import main
from tests.local_backend.test_server import client_of, events, wait_ready

pytest.importorskip("torch", reason="torch is not installed: make .make/local")

COMMAND = [sys.executable, "-m", "local_backend", "--model", "bundled"]
BODY = {"model": "bundled", "prompt": "x", "max_tokens": 900, "ignore_eos": True}


class Program:
    def __init__(self, socket: Path, *flags: str) -> None:
        self.socket = str(socket)
        command = [*COMMAND, "--listen", f"unix:{socket}", *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        wait_ready(socket)

    def client(self) -> httpx.Client:
        return client_of(self.socket)

    @property
    def engine(self) -> int:
        pid = self.process.pid
        (found,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Over a second: torch is loaded."""
    started = Program(tmp_path / "engine.sock", "--exit-with-stdin")
    yield started
    started.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Program]:
    """One that nobody holds."""
    started = Program(tmp_path / "engine.sock")
    yield started
    started.close()


def holds_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def test_nothing_that_the_server_imports_imports_torch_or_numpy() -> None:
    heavy = "[name for name in ('torch', 'numpy', 'safetensors', 'huggingface_hub') if name in sys.modules]"
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys, local_backend.__main__, local_backend.worker; print({heavy})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "[]"


def test_a_killed_engine_is_told_within_a_second_and_a_later_call_is_served(program: Program) -> None:
    assert not holds_torch(program.process.pid)
    assert holds_torch(program.engine)
    first = program.engine
    begun, ends = threading.Barrier(5), list[tuple[float, str]]()

    def read() -> None:
        with (
            program.client() as client,
            client.stream("POST", "/v1/completions", json=BODY | {"stream": True}) as r,
        ):
            lines = (line for line in r.iter_lines() if line)
            next(lines)
            begun.wait()
            *_, last = lines
            ends.append((time.perf_counter(), last))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    begun.wait()
    killed = time.perf_counter()
    os.kill(first, signal.SIGKILL)
    for reader in readers:
        reader.join()
    assert max(when for when, _ in ends) - killed < 1
    assert all("engine_unavailable" in last for _, last in ends)
    wait_ready(Path(program.socket))
    assert program.engine != first
    with program.client() as client:
        assert client.post("/v1/completions", json=BODY).json()["usage"]["completion_tokens"] == 900
        assert "backend_restarts_total 1\n" in client.get("/metrics").text


def test_an_engine_ends_with_its_server_however_that_ends(program: Program) -> None:
    engine = program.engine
    os.kill(engine, signal.SIGTERM)  # as a service manager does, to all processes at once: not its to obey
    program.process.kill()
    wait_gone(engine)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_who_signals_all_processes_means_the_one_that_started_them(
    number: signal.Signals, program: Program
) -> None:
    engine = program.engine
    for pid in (program.process.pid, engine):
        os.kill(pid, number)
    with program.client() as client:
        assert client.post("/v1/completions", json=BODY | {"max_tokens": 1}).status_code == 200
    assert program.engine == engine


def test_what_nobody_else_started_ends_when_its_terminal_hangs_up(alone: Program) -> None:
    engine = alone.engine
    for pid in (alone.process.pid, engine):
        os.kill(pid, signal.SIGHUP)
    assert alone.process.wait(10) == -signal.SIGHUP
    wait_gone(engine)


def test_sigterm_drains_and_ends_in_order(alone: Program) -> None:
    engine = alone.engine
    with alone.client() as client:
        asked = BODY | {"stream": True, "max_tokens": 200}
        with client.stream("POST", "/v1/completions", json=asked) as response:
            lines = (line for line in response.iter_lines() if line)
            text = next(lines)
            os.kill(alone.process.pid, signal.SIGTERM)
            found = events("\n".join([text, *lines]))
    assert found[-1]["choices"][0]["finish_reason"] == "length"
    assert alone.process.wait(10) == 0
    wait_gone(engine)


def test_a_model_that_cannot_be_served_ends_the_program_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    bundled = Path("local_backend/bundled")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((bundled / name).read_bytes())
    command = [sys.executable, "-m", "local_backend", "--model", str(folder)]
    ended = subprocess.run(
        [*command, "--listen", f"unix:{tmp_path}/s"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert (
        ended.stderr.strip()
        == f"local_backend: {folder}: there is no model.safetensors; other formats are not read"
    )


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1:99999"),
        ("--listen", "unix:"),
        ("--drain-timeout", "nan"),
        ("--drain-timeout", "-1"),
        ("--threads", "-1"),
        ("--max-seqs", "-1"),
        ("--max-len", "-5"),
        ("--max-waiting", "0"),
        ("--speculate", "65"),
        ("--tensor-parallel", "0"),
        ("--kv-memory", "much"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_told_with_its_form(
    flag: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["local_backend", "--model", "bundled", f"{flag}={value}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"argument {flag}: write" in capsys.readouterr().err
