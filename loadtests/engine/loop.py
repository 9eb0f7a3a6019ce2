"""Decoding and a closed loop over HTTP: through the engine's own server, and through the gateway before it."""

import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from loadtests.engine.bench import Absent, Bench, Figures, Goal, line
from loadtests.engine.ceilings import floor_of_all
from loadtests.engine.http import Answered, answers, gateway, latencies, server
from loadtests.engine.shapes import config_of, write
from loadtests.engine.sizes import Load
from loadtests.engine.subjects import prompts

LONG = 16_000  # tokens of a load of which a third of the rounds is enough
SPARE = 4 << 30  # bytes of a GPU that are left beside weights and cache


def loop(bench: Bench, found: Figures) -> None:
    """Raises Absent where the server's packages are not installed; without the gateway's it is left out and told."""
    shape, loads = bench.sizes.http_shape, bench.sizes.loads
    config = config_of(shape)
    found |= {"shape": shape, "lines": [], "goals": [], "notes": []}
    rows, length = max(one.clients for one in loads), max(one.prompt + one.new for one in loads) + 2
    memory = rows * (length + 32) * config.kv_bytes(bench.dtype.itemsize)
    if bench.on_gpu:  # sequences that it cannot hold wait, or are put back
        free, _ = torch.cuda.mem_get_info(bench.device)
        memory = min(memory, free - config.parameters * bench.dtype.itemsize - SPARE)
    options = (
        "--device", bench.device.type, "--dtype", bench.sizes.dtype, "--max-seqs", str(rows), "--max-len", str(length),
        "--kv-memory", str(memory), "--step-tokens", str(bench.sizes.step_tokens), "--threads", str(bench.threads),
    )  # fmt: skip
    with TemporaryDirectory() as folder, ExitStack() as stack:
        bench.tell(f"a server of {shape}, and a gateway before it ...")
        model = made_up(shape, Path(folder))
        ports = {
            "the engine": stack.enter_context(server(model, *options, module="loadtests.engine.serving"))
        }
        try:
            ports["the gateway"] = stack.enter_context(gateway(ports["the engine"]))
        except (Absent, TimeoutError) as error:
            found["notes"].append(f"without the gateway: {error}")
        seeds = iter(range(1 << 30))
        short = min(32, *(one.prompt for one in loads))
        warm = prompts(rows, short, config.vocab_size, next(seeds))
        for port in ports.values():
            answers(port, warm, 4, bench.left - 1)
        for load in loads:
            _compare(bench, load, ports, seeds, found)


def _compare(bench: Bench, load: Load, ports: dict[str, int], seeds: Iterator[int], found: Figures) -> None:
    """One load, every round through all ports in turn; prompts that no cache knows."""
    shape, config = found["shape"], config_of(found["shape"])
    runs: dict[str, list[Answered]] = {name: [] for name in ports}
    repeats = max(1, bench.rounds // 3) if load.clients * load.new > LONG else bench.rounds
    for number in range(repeats):
        for name, port in ports.items():
            bench.tell(
                f"{load.clients} clients, {load.prompt} in and {load.new} out, through {name}, round {number + 1} ..."
            )
            asked = prompts(load.clients, load.prompt, config.vocab_size, next(seeds))
            runs[name].append(answers(port, asked, load.new, bench.left - 1))
    floor = floor_of_all(bench, config, [load.prompt] * load.clients, [load.new] * load.clients)
    told = f"{load.clients} at once, {load.prompt} in, {load.new} out"
    seconds, between = {}, {}
    for name, each in runs.items():
        seconds[name] = statistics.median(one.seconds for one in each)
        middle = sorted(each, key=lambda one: one.seconds)[len(each) // 2]
        times = latencies(middle, load)
        between[name] = times["between_p50_ms"]
        rate = load.clients * load.new / seconds[name]
        found["lines"].append(line(f"{told}, {name}", load.clients, seconds[name], rate, floor=floor) | times)
    share = bench.sizes.goals.get((shape, "loop"))
    if share and load.new >= 1000:
        reached = round(floor / seconds["the engine"], 3)
        found["goals"].append(Goal(f"closed loop, {told}: share of the floor", share, reached))
    if "the gateway" in runs and load.clients == 1:
        added = round(between["the gateway"] - between["the engine"], 3)
        told = "one client: what the gateway adds between two tokens"
        found["goals"].append(Goal(told, 0.3, added, unit="ms", at_most=True))
    elif "the gateway" in runs:
        kept = round(seconds["the engine"] / seconds["the gateway"], 3)
        found["goals"].append(Goal(f"closed loop, {told}: the gateway's of the engine's", 0.94, kept))


def made_up(shape: str, folder: Path) -> Path:
    """A model's folder without weights: its config, and a tokenizer of as many words as its vocabulary has."""
    words = {f"w{number}": number for number in range(config_of(shape).vocab_size)}
    tokenizer: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return write(shape, folder)
