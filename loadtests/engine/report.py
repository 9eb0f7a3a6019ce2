"""Sections put together: run, kept as JSON, shown as a table, drawn."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from loadtests.engine.bench import RESULTS, Bench, Figures, Goal, keep
from loadtests.engine.cache import memory, turns
from loadtests.engine.decode import decode
from loadtests.engine.picture import draw
from loadtests.engine.stories import stories

SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    "stories": stories, "decode": decode, "turns": turns, "memory": memory
}  # fmt: skip


def run(device: str, only: list[str], rounds: int, threads: int, *, as_json: bool) -> int:
    """0: measured; 2: there is no such section or device."""
    console = Console(stderr=as_json)
    unknown = [name for name in only if name not in SECTIONS]
    if unknown or (device == "cuda" and not torch.cuda.is_available()):
        console.print(
            f"no section {unknown[0]}: {', '.join(SECTIONS)}" if unknown else "there is no GPU here"
        )
        return 2
    bench = Bench(
        torch.device(device), rounds, threads or os.cpu_count() or 1,
        lambda text: console.print(text, style="dim"),
    )  # fmt: skip
    found: Figures = {}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"engine-{device}-{_now()[:10]}.json"
    for name in only or SECTIONS:
        facts = {"when": _now(), "rounds": rounds, "machine": _machine(bench)}
        try:
            found[name] = _plain({**facts, **SECTIONS[name](bench)})
        except FileNotFoundError as missing:
            console.print(f"{name}: left out: {missing}")
            continue
        draw(keep(path, {name: found[name]}), path.with_suffix(".png"))
    if as_json:
        print(json.dumps(found))
    else:
        show(found, console)
    return 0


def show(report: Figures, console: Console) -> None:
    for name, section in report.items():
        rates = Table("rows", "what", "tokens/s", "ms a step", title=name)
        for row in _rows(section):
            rates.add_row(*row)
        if rates.row_count:
            console.print(rates)
    goals = Table("goal", "wanted", "reached", "each round", title="goals")
    for goal in goals_of(report):
        sign = "" if goal["reached"] >= goal["wanted"] else " (missed)"
        told = f"{goal['reached']} {goal['unit']}{sign}"
        goals.add_row(
            goal["name"], f"{goal['wanted']} {goal['unit']}", told, " ".join(map(str, goal["runs"]))
        )
    console.print(goals)


def _rows(section: Figures) -> Iterator[tuple[str, str, str, str]]:
    for name, runs in section.get("tokens_per_s", {}).items():
        yield "", name, f"{statistics.median(runs):,.0f}", ""
    for shape, found in section.get("shapes", {}).items():
        for row in found["rows"]:
            for name, per_second in row["tokens_per_s"].items():
                yield (
                    str(row["rows"]),
                    f"{shape}, {name}",
                    f"{per_second:,.1f}",
                    f"{row['step_ms'][name]:.2f}",
                )


def goals_of(found: Any) -> list[Figures]:
    """Wherever in a report they stand."""
    if isinstance(found, list):
        return [goal for one in found for goal in goals_of(one)]
    if not isinstance(found, dict):
        return []
    return list(found.get("goals", [])) + [
        goal for name, one in found.items() if name != "goals" for goal in goals_of(one)
    ]


def _plain(found: Any) -> Any:
    """Goals as JSON."""
    if isinstance(found, Goal):
        return asdict(found)
    if isinstance(found, dict):
        return {name: _plain(one) for name, one in found.items()}
    return [_plain(one) for one in found] if isinstance(found, list) else found


def _machine(bench: Bench) -> Figures:
    import transformers

    device = (
        torch.cuda.get_device_name(bench.device) if bench.on_gpu else torch.backends.cpu.get_cpu_capability()
    )
    return {
        "device": device, "cores": os.cpu_count(), "threads": bench.threads, "python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
