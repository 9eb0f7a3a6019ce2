"""The engine's end of the line, in a thread, with a puppet for an engine."""

import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local_backend import frames, machine
from local_backend import worker as module
from local_backend.config import BUNDLED, ModelConfig, UnusableModel
from local_backend.options import EngineConfig, Setup
from local_backend.types import Job, Sampling
from local_backend.worker import Make, Tell, Worker, build
from tests.local_backend import puppet

MAKE: Make = puppet.Puppet  # type: ignore[assignment]


class Line:
    """The server's end; `left` is set once the worker has noticed that we are gone."""

    def __init__(
        self, ours: socket.socket, left: threading.Event, ended: "queue.Queue[Exception | None]"
    ) -> None:
        self._ours, self.left, self.ended = ours, left, ended
        self._came = frames.messages(ours.makefile("rb"))

    def say(self, kind: str, *words: Any) -> None:
        self._ours.sendall(frames.pack(kind, *words))

    def hear(self, kind: str) -> frames.Message:
        return next(message for message in self._came if message[0] == kind)

    def hang_up(self) -> None:
        self._ours.shutdown(socket.SHUT_WR)


@contextmanager
def worker(make: Make = MAKE) -> Iterator[Line]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    line = Line(ours, threading.Event(), queue.Queue())

    def run() -> None:
        try:
            Worker(theirs, make, line.left.set).run()
            line.ended.put(None)
        except Exception as error:
            line.ended.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    with ours, theirs:
        yield line
        line.hang_up()
        thread.join(10)
        assert not thread.is_alive()
        line._came.close()  # type: ignore[attr-defined]


def test_one_message_a_step_tells_of_all_sequences() -> None:
    with worker() as line:
        line.say("load", Setup("puppet", config=EngineConfig(max_len=50)))
        assert line.hear("ready") == ["ready", 50]
        line.say("add", 1, Job([5], Sampling(max_tokens=1000), choices=2))
        line.say("add", 2, Job([5], Sampling(max_tokens=1000)))
        while len(told := line.hear("deltas")[1]) < 3:
            pass
        assert [(call, choice) for call, choice, _ in told] == [(1, 0), (1, 1), (2, 0)]
        line.say("abort", 1, 0)
        line.say("abort", 1, 0)
        while len(told := line.hear("deltas")[1]) > 2:
            pass
        assert [(call, choice) for call, choice, _ in told] == [(1, 1), (2, 0)]
    assert line.ended.get() is None


def test_pings_are_answered_while_a_step_is_computed_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going, held = threading.Event(), threading.Event()

    class Held(puppet.Puppet):
        def step(self) -> None:
            going.set()
            held.wait(10)
            super().step()

    with worker(Held) as line:  # type: ignore[arg-type]
        line.say("ping")  # nothing is there yet that could answer
        line.say("load", Setup("puppet"))
        line.hear("ready")
        line.say("add", 1, Job([5], Sampling(max_tokens=2)))
        assert going.wait(10)
        line.say("ping")
        assert line.hear("pong")[1]["steps"] == 0
        monkeypatch.setattr(module, "STUCK", 0.0)
        line.say("ping")
        line.say("abort", 7, 0)
        held.set()
        assert line.hear("deltas")[1][0][:2] == [1, 0]


def test_the_end_of_the_line_is_noticed_while_the_model_is_loaded() -> None:
    loading, held = threading.Event(), threading.Event()

    def make(setup: Setup, tell: Tell) -> Any:
        loading.set()
        held.wait(10)
        return puppet.Puppet(setup)

    with worker(make) as line:
        line.say("load", Setup("puppet"))
        assert loading.wait(10)
        line.hang_up()
        assert line.left.wait(10)
        held.set()
    assert line.ended.get(timeout=10) is None


def test_how_far_the_loading_has_come_is_told_but_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(setup: Setup, tell: Tell) -> Any:
        tell("at once")
        monkeypatch.setattr(module, "EVERY", 0.0)
        tell("after a while")
        return puppet.Puppet(setup)

    with worker(make) as line:
        line.say("load", Setup("puppet"))
        assert line.hear("loading") == ["loading", "after a while"]
        line.hang_up()


def test_a_line_that_ends_before_anything_is_said_is_no_fault() -> None:
    with worker() as line:
        line.hang_up()
        assert line.ended.get(timeout=10) is None


def test_an_engine_that_raises_hangs_up_first() -> None:
    with worker() as line:
        line.say("load", Setup("puppet"))
        line.hear("ready")
        began = time.perf_counter()
        line.say("add", 1, Job([puppet.CRASH], Sampling()))
        assert list(line._came) == []
        assert time.perf_counter() - began < 1
        assert "strings are cut" in str(line.ended.get(timeout=10))


def test_a_word_that_is_not_understood_ends_the_worker() -> None:
    with worker() as line:
        line.say("load", Setup("puppet"))
        line.say("hullo")
        assert "hullo" in str(line.ended.get(timeout=10))


def test_an_engine_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnusableModel, match=r"torch is not installed; pip install 'gatehouse\[local\]'"):
        build(Setup("nowhere"), print)


@pytest.mark.parametrize("fault", [ZeroDivisionError("by zero"), KeyError("x"), RecursionError("deep")])
def test_what_a_models_files_cannot_mean_is_told_and_not_tried_again(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: make .make/local")
    from local_backend import making

    def fail(setup: Setup, tell: Tell) -> None:
        raise fault

    monkeypatch.setattr(making, "engine_of", fail)
    with pytest.raises(UnusableModel, match=f"{BUNDLED}: cannot be loaded: {type(fault).__name__}"):
        build(Setup(str(BUNDLED), threads=1), print)
    assert "Traceback" in capfd.readouterr().err, "where, for whoever mends it"


def test_an_engine_is_sized_to_the_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
    threads = torch.get_num_threads()
    setup = Setup(str(BUNDLED), kv_memory=0.5, config=EngineConfig(max_seqs=1))
    try:
        monkeypatch.setattr(machine, "available_memory", lambda: 4 << 20)
        assert build(setup, print).max_len < ModelConfig.load(BUNDLED).max_positions
        assert torch.get_num_threads() == 1, "a small model is fastest on one"
        monkeypatch.setattr(machine, "available_memory", lambda: 1 << 20)
        with pytest.raises(UnusableModel, match="the weights take about"):
            build(setup, print)
    finally:
        torch.set_num_threads(threads)
