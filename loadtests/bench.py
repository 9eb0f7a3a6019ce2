"""The table: direct, nginx and the gateway side by side, round by round, each alone on one core."""

import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from loadtests import generator
from loadtests.children import KEY, Process, Stage, rss_mib
from loadtests.picture import draw

SUBJECT, LOAD = 0, 1  # cores: what is measured, and what measures
CONNECTIONS = (64, 256)  # clients that ask again as soon as they have an answer: few of them, and many
REST, IDLE = 0.5, 0.04  # seconds without more than this share of the core
MOST_RESTS = 60
RESULTS = Path(__file__).parent / "results"
PROMPT = "Summarise this ticket in two sentences and name the next step. " * 13
LUA = """
wrk.method = "POST"; wrk.body = [==[{body}]==]
wrk.headers["authorization"] = "Bearer {key}"
"""


@dataclass
class Row:
    """One system, one entry per round."""

    name: str
    # By the number of connections: requests/s, and what each took of the subject's processor.
    saturation: dict[int, list[float]] = field(
        default_factory=lambda: {clients: [] for clients in CONNECTIONS}
    )
    cpu_us: dict[int, list[float]] = field(default_factory=lambda: {clients: [] for clients in CONNECTIONS})
    p50_ms: list[float] = field(default_factory=list)  # at the constant rate
    p99_ms: list[float] = field(default_factory=list)
    failed: int = 0


def body(model: str, stream: bool = False) -> bytes:
    """About 1 KB."""
    payload = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "temperature": 0.2}
    return json.dumps(payload | ({"stream": True} if stream else {})).encode()


def run(rounds: int, seconds: float, rate: int, *, quick: bool, as_json: bool) -> int:
    os.sched_setaffinity(0, {LOAD})
    console = Console(stderr=as_json)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stage = Stage(Path(folder), stack)
        stage.upstream(LOAD)
        rows, facts = _calls(stage, rounds, seconds, rate, console)
        if not quick:
            facts["streams"] = asdict(_streams(stage, console))
            facts["memory"] = _memory(stage, console)
    report = _report(rows, facts, rounds, seconds, rate)
    _keep(report)
    if as_json:
        print(json.dumps(report))
    else:
        _show(report, console)
    return 0


def _calls(
    stage: Stage, rounds: int, seconds: float, rate: int, console: Console
) -> tuple[list[Row], dict[str, Any]]:
    """Saturation and constant rate for each system in turn, as many rounds as asked."""
    _, redis_url = stage.redis(LOAD)
    policies = stage.policies()
    nginx, nginx_port = stage.nginx(SUBJECT)
    traced = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01",
              "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{stage.upstream_port}/v1/traces"}  # fmt: skip
    gateway = stage.gateway(policies, traced, core=SUBJECT)
    shared = stage.gateway(policies, {**traced, "GATEWAY_REDIS_URL": redis_url}, core=SUBJECT)
    facts = {
        "cold_start_s": round(gateway.cold_start, 2),
        "rss_start_mib": gateway.process.rss_mib(),
        "rss_ledger_mib": sum(map(rss_mib, _family(gateway.process)[1:])),
    }
    subjects: list[tuple[Row, Process | None, int]] = [
        (Row("direct"), None, stage.upstream_port),
        (Row("nginx"), nginx, nginx_port),
        (Row("gateway"), gateway.process, gateway.port),
        (Row("gateway, limits in Redis"), shared.process, shared.port),
    ]
    for number in range(1, rounds + 1):
        for row, process, port in subjects:
            console.print(f"round {number}/{rounds}: {row.name} ...", style="dim")
            with _paused([other for _, other, _ in subjects if other is not None and other is not process]):
                _one(row, process, port, seconds, rate)
    return [row for row, _, _ in subjects], facts


@contextmanager
def _paused(processes: list[Process]) -> Iterator[None]:
    """Those whose turn it is not: their clocks tick, too, on the core that one has to itself."""
    pids = [pid for process in processes for pid in _family(process)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _one(row: Row, process: Process | None, port: int, seconds: float, rate: int) -> None:
    request = generator.request_bytes(port, "/v1/chat/completions", body("gpt-4o-mini"), KEY)
    pids = _family(process) if process is not None else []
    for clients in CONNECTIONS:
        before = sum(_cpu(pid) for pid in pids)
        count, per_second = _saturate(port, request, seconds, clients)
        if pids and count:
            _await_rest(pids)
            row.cpu_us[clients].append(round((sum(_cpu(pid) for pid in pids) - before) / count * 1e6, 1))
        row.saturation[clients].append(per_second)
    paced = uvloop.run(generator.constant_rate(port, request, rate, seconds))
    row.p50_ms.append(paced.p50)
    row.p99_ms.append(paced.p99)
    row.failed += paced.failed


def _saturate(port: int, request: bytes, seconds: float, clients: int) -> tuple[int, float]:
    """(requests, requests/s) by wrk where it is installed, else by our own generator."""
    wrk = shutil.which("wrk")
    if wrk is None:
        result = uvloop.run(generator.saturate(port, request, clients, seconds))
        return result.requests, result.rate
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA.format(body=body("gpt-4o-mini").decode(), key=KEY))
        script.writelines(f'wrk.headers["{name}"] = "{value}"\n' for name, value in generator.SDK.items())
        script.flush()
        command = [wrk, "-t1", f"-c{clients}", f"-d{int(seconds)}s", "-s", script.name]
        told = subprocess.run(
            [*command, f"http://127.0.0.1:{port}/v1/chat/completions"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    if "Non-2xx" in told:
        raise RuntimeError(f"the load was refused:\n{told}")
    count = re.search(r"(\d+) requests in", told)
    per_second = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert count is not None
    assert per_second is not None
    return int(count[1]), float(per_second[1])


def _streams(stage: Stage, console: Console) -> generator.Streamed:
    """2,000 streams open at once, each event 75 ms after the last: 26,667 events/s asked for."""
    console.print("streams: 2,000 open at once ...", style="dim")
    gateway = stage.gateway(stage.policies(), core=SUBJECT)
    request = generator.request_bytes(
        gateway.port, "/v1/chat/completions", body("sse-240-75", stream=True), KEY
    )
    return uvloop.run(generator.streams(gateway.port, request, 2000, opening=4.0))


def _memory(stage: Stage, console: Console) -> dict[str, float]:
    """Resident memory: at the start, and after each further 100,000 calls (the first two are warm-up); and how many
    calls a second they were, when the ledger gets no time but what it takes."""
    console.print("memory: 400,000 calls ...", style="dim")
    gateway = stage.gateway(stage.policies(), core=SUBJECT)
    request = generator.request_bytes(gateway.port, "/v1/chat/completions", body("gpt-4o-mini"), KEY)
    found = {"start_mib": gateway.process.rss_mib()}
    rates = []
    for name in ("after_100k_mib", "after_200k_mib", "after_300k_mib", "after_400k_mib"):
        done = 0
        while done < 100_000:
            count, rate = _saturate(gateway.port, request, 5, CONNECTIONS[0])
            done += count
            rates.append(rate)
        time.sleep(1)
        found[name] = gateway.process.rss_mib()
    return found | {"requests_per_s": statistics.median(rates)}


def _report(rows: list[Row], facts: dict[str, Any], rounds: int, seconds: float, rate: int) -> dict[str, Any]:
    medians = {
        row.name: {
            "requests_per_s": _medians(row.saturation),
            "cpu_us": _medians(row.cpu_us),
            "p50_ms": statistics.median(row.p50_ms),
            "p99_ms": statistics.median(row.p99_ms),
        }
        for row in rows
    }
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "seconds": seconds,
        "rate": rate,
        "generator": "wrk" if shutil.which("wrk") else "own",
        "python": platform.python_version(),
        "rows": [asdict(row) for row in rows],
        "medians": medians,
        **facts,
    }


def _medians(found: dict[int, list[float]]) -> dict[str, float]:
    """By the number of connections; nothing where nothing was measured."""
    return {str(clients): statistics.median(each) for clients, each in found.items() if each}


def _keep(report: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = "bench-" + report["when"][:10]
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(report, RESULTS / f"{name}.png")


def _show(report: dict[str, Any], console: Console) -> None:
    medians = report["medians"]
    nginx, direct = medians["nginx"], medians["direct"]
    table = Table(
        title="requests/s of so many clients on one core, 1 KB bodies; added latency at "
        f"{report['rate']:,} requests/s; medians of {report['rounds']} rounds"
    )
    busy = [name for clients in CONNECTIONS for name in (f"{clients} clients", "of nginx", "CPU us")]
    for name in ("", *busy, "p50 ms", "p99 ms"):
        table.add_column(name, justify="right" if name else "left")
    for name, row in medians.items():
        table.add_row(
            name,
            *(cell for clients in CONNECTIONS for cell in _cells(row, nginx, str(clients))),
            f"{row['p50_ms'] - direct['p50_ms']:.3f}",
            f"{row['p99_ms'] - direct['p99_ms']:.3f}",
        )
    console.print(table)
    for name in ("cold_start_s", "rss_start_mib", "rss_ledger_mib", "streams", "memory"):
        if name in report:
            console.print(f"{name}: {report[name]}")


def _cells(row: dict[str, Any], nginx: dict[str, Any], clients: str) -> tuple[str, str, str]:
    """Requests/s of so many connections, beside nginx's, and what one takes."""
    rate, cpu = row["requests_per_s"][clients], row["cpu_us"].get(clients)
    return (
        f"{rate:,.0f}",
        f"{rate / nginx['requests_per_s'][clients]:.2f}",
        "-" if cpu is None else f"{cpu:.0f}",
    )


def _family(process: Process) -> list[int]:
    """A process and its children: nginx's work is done by its worker."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in children:
        os.sched_setaffinity(int(pid), {SUBJECT})
    return [process.pid, *map(int, children)]


def _await_rest(pids: list[int]) -> None:
    """Until the ledger is done with the calls of a busy time: their rows are a part of what they cost."""
    last = -1.0
    for _ in range(MOST_RESTS):
        if (now := sum(map(_cpu, pids))) - last <= IDLE * REST:
            return
        last = now
        time.sleep(REST)
    raise RuntimeError(f"the ledger is still busy after {MOST_RESTS * REST:g} s")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
