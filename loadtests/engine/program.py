"""`python -m loadtests engine`: its options, and the parts in the order of their worth."""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from rich.console import Console

from loadtests.engine.bench import RESULTS, Bench
from loadtests.engine.ceilings import ceilings
from loadtests.engine.decode import decode
from loadtests.engine.host import host
from loadtests.engine.peers import peers, same
from loadtests.engine.prompts import mixed, prefill
from loadtests.engine.quantised import quantised
from loadtests.engine.report import Part, measure, now, show
from loadtests.engine.sizes import CPU, GPU
from loadtests.engine.speculation import speculation
from loadtests.engine.turns import turns


def parts() -> list[Part]:
    return [
        Part("same", same, 90),
        Part("ceilings", ceilings, 60),
        Part("decode", decode, 180),
        Part("prefill", prefill, 45),
        Part("mixed", mixed, 75),
        Part("loop", _loop, 180),
        Part("quantised", quantised, 90),
        Part("peers", peers, 150),
        Part("turns", turns, 30),
        Part("host", host, 30),
        Part("stories", _stories, 150),
        Part("speculation", speculation, 180),
    ]


def main(arguments: list[str]) -> int:
    """0: measured, or left out for a reason that is told; 1: a part failed; 2: used wrongly."""
    args = _parser().parse_args(arguments)
    console = Console(stderr=args.json)
    if not console.is_terminal:
        console.width = 132  # what is written to a log keeps its lines whole
    known = {part.name: part for part in parts()}
    only = [name for name in args.only.split(",") if name] or list(known)
    unknown = [name for name in only if name not in known]
    if unknown or (args.device == "cuda" and not torch.cuda.is_available()):
        console.print(f"no part {unknown[0]}: {', '.join(known)}" if unknown else "there is no GPU here")
        return 2
    bench = Bench(
        torch.device(args.device), GPU if args.device == "cuda" else CPU, args.rounds,
        args.threads or os.cpu_count() or 1, lambda text: console.print(text, style="dim", markup=False),
        time.perf_counter() + args.seconds,
    )  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"engine-{args.device}-{now()[:10]}.json"
    # what is asked for by name may take all the time there is
    asked = [known[name]._replace(seconds=args.seconds) if args.only else known[name] for name in only]
    found = measure(bench, asked, path)
    if args.json:
        print(json.dumps(found))
    else:
        show(found, console)
        console.print(f"kept in {path}", markup=False)
    return int(any(section["state"] == "failed" for section in found.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests engine",
        description="The local engine: what it reaches of what its device could do, and beside transformers.",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", default="", metavar="PART,...", help=", ".join(one.name for one in parts()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: one per core")
    parser.add_argument("--seconds", type=float, default=560, help="for all of it; the rest is left out")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="for JSON and picture")
    parser.add_argument("--json", action="store_true", help="on standard output, instead of tables")
    return parser


# These two speak HTTP, and need packages that the others do without.


def _loop(bench: Bench, found: dict[str, object]) -> None:
    from loadtests.engine.loop import loop

    loop(bench, found)


def _stories(bench: Bench, found: dict[str, object]) -> None:
    from loadtests.engine.stories import stories

    stories(bench, found)
