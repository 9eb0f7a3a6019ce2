"""One JSON line per event, whatever is in it; a sink that takes nothing holds nobody up."""

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pipeline.attempts import Attempts
from gateway.telemetry import logs
from gateway.telemetry.logs import Bridge, Log
from tests.running import KEY, gateway, policies
from tests.scripted import CHAT, Provider, answer, hang

NOW = 1_800_000_000.5
SECRET = "sk-provider-0123456789"


class Sink:
    """A pipe and what came through it."""

    def __init__(self) -> None:
        self.out, self.fd = os.pipe()

    def lines(self) -> list[dict[str, Any]]:
        """Everything written, once nothing is written any more."""
        os.close(self.fd)
        with os.fdopen(self.out, "rb") as file:
            return [json.loads(line) for line in file.read().splitlines()]


@pytest.fixture
def sink() -> Iterator[Sink]:
    one = Sink()
    yield one
    for fd in (one.out, one.fd):
        try:
            os.close(fd)
        except OSError:  # the test did
            continue


def log_to(sink: Sink, level: str = "info") -> Log:
    return Log(level, lambda: NOW, sink.fd)


def calls(text: str, message: str = "call") -> list[dict[str, Any]]:
    """The lines of this name among what a gateway wrote."""
    return [line for line in map(json.loads, text.rstrip().split("\n")) if line["msg"] == message]


def test_an_event_is_a_line_of_json_with_its_time_and_level(sink: Sink) -> None:
    log_to(sink)("warning", "policies refused", file="a.yaml", line=3)
    told = {"time": NOW, "level": "warning", "msg": "policies refused", "file": "a.yaml", "line": 3}
    assert sink.lines() == [told]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_below_the_level_is_not_written(sink: Sink, level: str) -> None:
    log = log_to(sink, level)
    for one in logs.LEVELS:
        log(one, "x")
    order = ["debug", "info", "warning", "error"]
    assert [line["level"] for line in sink.lines()] == order[order.index(level) :]
    assert log.writes_calls is (level in ("debug", "info"))


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_no_text_can_forge_a_line_or_end_the_log(message: str, field: str) -> None:
    """Lone surrogates stand for bytes that are no UTF-8, as in names of files."""
    out, fd = os.pipe()
    try:
        log = Log("info", lambda: NOW, fd)
        log("info", message, field=field)
        log("info", "next")
        written = os.read(out, 1 << 20)
    finally:
        os.close(out)
        os.close(fd)
    first, second = written.removesuffix(b"\n").split(b"\n")
    assert not any(byte < 0x20 for byte in first)
    assert json.loads(first).keys() == {"time", "level", "msg", "field"}
    assert json.loads(second)["msg"] == "next"


def test_secrets_are_hidden_wherever_they_stand_longer_ones_first(sink: Sink) -> None:
    log = log_to(sink)
    log.hide([SECRET[:12], SECRET, "short"])
    log("error", f"told {SECRET} and {SECRET[:12]}, short", error=f"({SECRET})")
    (line,) = sink.lines()
    assert line["msg"] == "told *** and ***, short"
    assert line["error"] == "(***)"
    assert SECRET[:12] not in json.dumps(line)


def test_the_standard_librarys_loggers_come_through_the_same_lines(sink: Sink) -> None:
    log = log_to(sink)
    log.hide([SECRET])
    logger = logging.Logger("uvicorn.error")
    logger.addHandler(Bridge(log))
    logger.info("not worth a line")
    try:
        raise ValueError(f"bad\nline {SECRET}")
    except ValueError:
        logger.exception("it \udcff failed: %s", SECRET)
    (line,) = sink.lines()
    assert (line["level"], line["logger"], line["msg"]) == (
        "error",
        "uvicorn.error",
        "it \\udcff failed: ***",
    )
    assert "ValueError: bad\nline ***" in line["error"]


async def test_a_sink_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FLUSH", 0.001)
    monkeypatch.setattr(logs, "BUFFER", 100_000)
    log = log_to(sink)
    writing = asyncio.ensure_future(log.run())
    await asyncio.sleep(0)
    for number in range(10_000):
        log("error", "x" * 100, number=number)  # the pipe holds 64 KiB, and nobody reads it
        log.event(b"call", b'{"a":1}\n')
        if number % 1000 == 0:
            await asyncio.sleep(0.002)
    assert log.dropped > 0
    read = bytearray()
    reading = asyncio.ensure_future(asyncio.to_thread(_drain, sink.out, read))
    async with asyncio.timeout(10):
        while read.count(b"\n") < 20_000 - log.dropped:
            await asyncio.sleep(0.002)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    os.close(sink.fd)
    await reading
    assert len([json.loads(line) for line in read.splitlines()]) == 20_000 - log.dropped


def _drain(fd: int, into: bytearray) -> None:
    while data := os.read(fd, 1 << 16):
        into += data


def test_a_sink_that_is_gone_is_no_error(sink: Sink) -> None:
    log = log_to(sink)
    os.close(sink.out)
    log("error", "nobody hears")
    assert log.dropped == 1


async def test_a_call_is_one_line_with_what_an_operator_asks_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = policies("URL").replace('base_url: "URL"', f'base_url: "URL", api_key: "{SECRET}"')
    words = {**CHAT, "choices": [{"message": {"content": "a whispered answer"}, "finish_reason": "stop"}]}
    async with Provider([answer(words, x_request_id="up-1")]) as provider:
        async with gateway(tmp_path, text.replace("URL", provider.url), log_level="info") as running:
            async with running.client() as client:
                await client.post(
                    "/v1/chat/completions?q=asked-in-the-query",
                    json={
                        "model": "smart",
                        "messages": [{"role": "user", "content": "a whispered question"}],
                    },
                    headers={"x-request-id": "r-1", "x-gateway-metadata": '{"user": "ann", "env": "prod"}'},
                )
            version = running.house.policies.snapshot.version
    written = capfd.readouterr().err
    (line,) = calls(written)
    assert line.keys() == {
        "level", "msg", "id", "e", "v", "started", "key", "team", "user", "model", "entry", "route", "stream",
        "prompt_estimate", "request_id", "policies", "ended", "provider", "target", "status", "outcome",
        "prompt", "completion", "cached", "reasoning", "estimated", "ms", "upstream_ms", "ttft_ms",
        "finish_reason", "error", "trace_id", "metadata", "attempts",
    }  # fmt: skip
    expected = {
        "level": "info", "key": "tester", "team": "research", "user": "ann", "model": "smart", "route": "chat",
        "stream": False, "request_id": "r-1", "policies": version, "provider": "p0", "target": "p0/smart",
        "status": 200, "outcome": "ok", "prompt": 7, "completion": 3, "estimated": False, "error": "",
        "finish_reason": "stop", "metadata": {"user": "ann", "env": "prod"},
    }  # fmt: skip
    assert line.items() >= expected.items()
    assert 0 <= line["ms"] - line["upstream_ms"] <= line["ms"] < 10_000
    (attempt,) = line["attempts"]
    assert (attempt["target"], attempt["result"], attempt["status"]) == ("p0/smart", "ok", 200)
    for kept in ("whispered", "asked-in-the-query", SECRET, KEY, running.token):
        assert kept not in written


@pytest.mark.parametrize("status", [504, 503])
async def test_a_call_that_is_ended_early_is_logged_with_the_status_its_client_got(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def shut_down(*given: object) -> None:
        raise asyncio.CancelledError

    async with Provider([hang()]) as provider:
        text = policies(provider.url, model="timeouts: {total: 100ms}")
        async with gateway(tmp_path, text, log_level="info") as running:
            if status == 503:
                monkeypatch.setattr(Attempts, "run", shut_down)
            assert (await running.chat()).status_code == status
    (line,) = calls(capfd.readouterr().err)
    assert line["status"] == status


async def test_a_refused_call_is_one_line_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rule = "kind: rate-limits\nrules: [{id: one-a-day, limit: 1, unit: requests, per: day}]"
    async with Provider() as provider:
        text = policies(provider.url, more=rule)
        async with gateway(tmp_path, text, log_level="info") as running:
            await running.chat()
            await running.chat()
            await running.chat(model="unheard-of")
            async with running.client("sk-not-a-known-key") as client:
                await client.post("/v1/chat/completions", json={"model": "smart"})
    written = capfd.readouterr().err
    limited = calls(written)[1]
    assert (limited["status"], limited["outcome"], limited["error"], limited["team"]) == (
        429, "rate_limited", "rate_limit_exceeded", "research",
    )  # fmt: skip
    told = [
        (line["status"], line["error"], line["route"], line.get("team")) for line in calls(written, "refused")
    ]
    assert told == [(404, "model_not_found", "chat", "research"), (401, "invalid_api_key", "chat", None)]
    assert calls(written, "refused")[0]["key"] == "tester"
    assert "sk-not-a-known-key" not in written


async def test_nothing_a_client_or_provider_says_breaks_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evil = '"}\n{"level":"error","msg":"forged"}\r\n\x1b[2J\x9b2J\x85\u2028\u202e\u2066\u061c\u00e9'
    text = policies("URL").replace("mini:", '"*": {targets: [{provider: p0}]}\n  mini:')
    ill = {**CHAT, "choices": [{"message": {"content": "a"}, "finish_reason": evil}]}
    async with Provider([answer(ill)]) as provider:
        async with gateway(tmp_path, text.replace("URL", provider.url), log_level="info") as running:
            async with running.client() as client:
                head = {"x-gateway-metadata": json.dumps({"user": evil})}
                body = {"model": evil, "messages": []}
                await client.post("/v1/chat/completions", json=body, headers=head)
    lines = capfd.readouterr().err
    assert not set("\x1b\x9b\x85\u2028\u202e\u2066\u061c") & set(lines)
    assert "\u00e9" in lines
    (line,) = calls(lines)
    assert line["model"] == line["user"] == line["finish_reason"] == evil
    assert not calls(lines, "forged")


async def test_a_quiet_level_writes_no_calls(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with Provider() as provider:
        async with gateway(tmp_path, policies(provider.url), log_level="warning") as running:
            await running.chat()
            await running.chat(model="unheard-of")
    assert capfd.readouterr().err == ""


def test_a_pipe_that_nobody_reads_is_left_alone_and_what_it_did_not_take_comes_later(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SLOW", 0.01)
    log = Log("info", lambda: NOW, sink.fd)
    for number in range(2000):
        log.event(b"call", b'{"number":%d,"more":"%b"}\n' % (number, b"x" * 100))
    log.flush()  # returns, though the pipe holds 64 KiB
    log.event(b"call", b'{"number":2000}\n')
    seen: list[int] = []
    while len(seen) < 2001:
        read = b""
        while not read.endswith(b"\n"):
            read += os.read(sink.out, 1 << 20)
            log.flush()
        seen += [json.loads(line)["number"] for line in read.splitlines()]
    assert seen == list(range(2001))
    assert log.dropped == 0


def test_lines_are_written_whole_so_that_other_processes_come_between_none() -> None:
    out, fd = os.pipe2(os.O_DIRECT)  # what was written in one step is read in one
    log = Log("info", lambda: NOW, fd)
    for number in range(100):
        log.event(b"call", b'{"number":%d,"more":"%b"}\n' % (number, b"x" * 300))
    log.event(b"call", b'{"number":100,"more":"%b"}\n' % (b"x" * 10_000))  # what no pipe takes in one step
    log.event(b"call", b'{"number":101}\n')
    log.flush()
    os.close(fd)
    with os.fdopen(out, "rb", buffering=0) as file:
        *pieces, last = iter(lambda: file.read(1 << 16), b"")
    of_lines = [piece for piece in pieces if piece.endswith(b"\n")]
    assert sum(piece.count(b"\n") for piece in of_lines) == 100
    assert [json.loads(line)["number"] for line in b"".join([*pieces, last]).splitlines()] == list(range(102))
