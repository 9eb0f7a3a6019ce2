"""Parts put together: each run within its time, kept as JSON when it is over, shown as a table, drawn. A part that
fails is told with its reason, and the next one begins."""

import os
import platform
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loadtests.engine.bench import Absent, Bench, Figures, Goal, OutOfTime, keep
from loadtests.engine.picture import draw

_TOLD = 400  # characters of a failure


class Part(NamedTuple):
    """`act` puts its figures into a dictionary as they come, so that what it had is kept when it fails. `seconds` are
    the most that it may take."""

    name: str
    act: Callable[[Bench, Figures], None]
    seconds: float


def measure(bench: Bench, parts: Iterable[Part], path: Path) -> Figures:
    """All parts, in the order of their worth; the file holds what is known at any time. A section's `state` is done,
    failed or left out, and its `reason` says why."""
    found: Figures = {}
    for part in parts:
        bench.tell(f"— {part.name}, {bench.left:.0f} s left")
        section: Figures = {"when": now(), "rounds": bench.rounds, "machine": machine(bench), "state": "done"}
        began = bench.left
        torch.set_num_threads(bench.threads)
        try:
            if began <= 0:
                raise OutOfTime("time")
            with bench.at_most(part.seconds):
                part.act(bench, section)
        except (Absent, OutOfTime) as left_out:
            section |= {"state": "left out", "reason": str(left_out)}
        except ModuleNotFoundError as missing:
            section |= {"state": "left out", "reason": f"{missing.name} is not installed"}
        except Exception as error:  # the border of a part: the others are worth their time all the same
            section |= {"state": "failed", "reason": f"{type(error).__name__}: {error}"[:_TOLD]}
            section["trace"] = traceback.format_exc().splitlines()[-8:]
        section["seconds"] = round(began - bench.left, 1)
        if section["state"] != "done":
            bench.tell(f"{part.name}: {section['state']}: {section['reason']}")
        found[part.name] = plain(section)
        bench.free()
        draw(keep(path, {part.name: found[part.name]}), path.with_suffix(".png"))
    return found


def show(report: Figures, console: Console) -> None:
    for name, section in report.items():
        table = Table(
            "what", "rows", "ms", "p99", "tokens/s", "of floor", title=name, title_justify="left", box=SIMPLE
        )
        for one in section.get("lines", []):
            share = f"{one['of_floor']:.0%}" if "of_floor" in one else ""
            p99 = f"{one['p99_ms']:,.2f}" if "p99_ms" in one else ""
            table.add_row(
                one["what"], str(one["rows"]), f"{one['ms']:,.2f}", p99, f"{one['tokens_per_s']:,.1f}", share
            )
        if table.row_count:
            console.print(table)
        for note in section.get("notes", []):
            console.print(f"{name}: {note}", markup=False)
        if section["state"] != "done":
            console.print(f"{name}: {section['state']}: {section['reason']}", markup=False)
    goals = Table("goal", "wanted", "reached", "each round", title="goals", title_justify="left", box=SIMPLE)
    for goal in [one for section in report.values() for one in section.get("goals", [])]:
        sign = "" if goal["held"] else " (missed)"
        told = f"{goal['reached']} {goal['unit']}{sign}"
        goals.add_row(
            goal["name"], f"{goal['wanted']} {goal['unit']}", told, " ".join(map(str, goal["runs"]))
        )
    if goals.row_count:
        console.print(goals)


def plain(found: Any) -> Any:
    """Goals as JSON."""
    if isinstance(found, Goal):
        return asdict(found) | {"held": found.held}
    if isinstance(found, dict):
        return {name: plain(one) for name, one in found.items()}
    return [plain(one) for one in found] if isinstance(found, list) else found


def machine(bench: Bench) -> Figures:
    named = torch.backends.cpu.get_cpu_capability()
    if bench.on_gpu:
        named = torch.cuda.get_device_name(bench.device)
    return {
        "device": named, "cores": os.cpu_count(), "threads": bench.threads, "python": platform.python_version(),
        "torch": torch.__version__, "transformers": _version("transformers"), "triton": _version("triton"),
    }  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
