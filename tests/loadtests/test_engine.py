"""The engine's benchmark: its arithmetic, what becomes of parts that fail, and every part once, as small as can be."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from loadtests.engine import ceilings as floors  # noqa: E402 - what needs torch comes after
from loadtests.engine import host as module  # noqa: E402
from loadtests.engine import program, report  # noqa: E402
from loadtests.engine.bench import Absent, Bench, Figures, Goal, OutOfTime, ratio  # noqa: E402
from loadtests.engine.http import check_imports  # noqa: E402
from loadtests.engine.loop import loop  # noqa: E402
from loadtests.engine.prompts import workload  # noqa: E402
from loadtests.engine.report import Part, measure  # noqa: E402
from loadtests.engine.shapes import config_of  # noqa: E402
from loadtests.engine.sizes import CPU, GPU, Decode, Load, Mixed, Prefill, Sizes  # noqa: E402
from local_backend import kernels  # noqa: E402

TRIAL = CPU._replace(
    step_tokens=16,
    decode=Decode(("tiny",), (1, 3), 20, 1, 3),
    prefill=Prefill(("tiny",), 24, (24, 8)),
    mixed=Mixed(("tiny",), 3, 4, 20),
    http_shape="tiny",
    loads=(Load(1, 8, 4), Load(2, 8, 4)),
    quantised=Decode(("tiny",), (1,), 8, 1, 2),
    ways=("int8", "int4", "fp8 keys"),
    peers=Decode(("tiny",), (2,), 8, 1, 4),
)


def bench_of(sizes: Sizes = TRIAL, seconds: float = 100.0) -> Bench:
    ends = time.perf_counter() + seconds
    return Bench(torch.device("cpu"), sizes, 1, 1, lambda text: None, ends)


def on_an_h200() -> Bench:
    """What one H200 reached in a copy and in a product."""
    bench = bench_of(GPU)
    bench.known["ceilings"] = {"copy_gb_per_s": 4300.0, "product_tflop_per_s": 788.0}
    return bench


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither large copies nor pictures; and as many threads afterwards as before."""
    monkeypatch.setattr(report, "draw", lambda *_: None)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def known() -> Bench:
    bench = bench_of()
    bench.known["ceilings"] = {"copy_gb_per_s": 10.0, "product_tflop_per_s": 1.0, "product_dtype": "float32"}
    return bench


def part(name: str) -> Part:
    return next(one for one in program.parts() if one.name == name)


@pytest.mark.parametrize(
    ("shape", "rows", "milliseconds"),
    [("Llama-3.1-8B", 1, 3.52), ("Llama-3.1-8B", 256, 12.85), ("Qwen3-0.6B", 1, 0.305), ("Qwen3-0.6B", 256, 7.378)],
)  # fmt: skip
def test_the_floor_of_a_step_is_its_bytes_or_its_products(shape: str, rows: int, milliseconds: float) -> None:
    found = floors.floor_of_step(on_an_h200(), config_of(shape), rows, 1024)
    assert found * 1e3 == pytest.approx(milliseconds, rel=0.01)


def test_weights_of_half_the_bits_halve_the_floor_of_one_row() -> None:
    bench, config = on_an_h200(), config_of("Llama-3.1-8B")
    assert 1 / floors.floor_of_step(bench, config, 1, 1024, 1) == pytest.approx(563, rel=0.01)
    assert 256 / floors.floor_of_step(bench, config, 256, 1024, 1) == pytest.approx(24_562, rel=0.01)


@pytest.mark.parametrize(("shape", "milliseconds"), [("Llama-3.1-8B", 167), ("Qwen3-0.6B", 19)])
def test_the_floor_of_a_prompt_counts_layers_and_causal_attention(shape: str, milliseconds: float) -> None:
    found = floors.floor_of_prompt(on_an_h200(), config_of(shape), 8192)
    assert found * 1e3 == pytest.approx(milliseconds, rel=0.01)


def test_the_mixed_workload_is_that_of_nano_vllm() -> None:
    asked, wanted = workload(GPU.mixed, 128_256)
    assert (sum(map(len, asked)), sum(wanted)) == (142_827, 133_966)
    found = floors.floor_of_all(on_an_h200(), config_of("Llama-3.1-8B"), list(map(len, asked)), wanted)
    assert found == pytest.approx(10.06, rel=0.03)


def test_every_goal_of_a_gpu_is_of_a_shape_that_is_measured_there() -> None:
    shapes = {*GPU.decode.shapes, GPU.http_shape}
    assert {shape for shape, _ in GPU.goals} <= shapes
    assert {place for _, place in GPU.goals if isinstance(place, int)} == set(GPU.decode.rows)


def test_a_ratio_is_of_medians_and_names_each_round() -> None:
    found = ratio("twice", 2, [4.0, 6.0, 9.0], [2.0, 3.0, 1.0])
    assert (found.reached, found.runs, found.held) == (3.0, [2.0, 2.0, 9.0], True)
    assert not Goal("less", 0.3, 0.4, at_most=True).held


def test_laps_are_as_many_as_steps_and_a_processor_has_no_clock_of_its_own() -> None:
    steps: list[int] = []
    laps = bench_of().laps(lambda: steps.append(1), 3)
    assert (len(steps), len(laps.wall), laps.device) == (3, 3, [])
    assert laps.seconds >= sum(laps.wall)


def test_a_part_that_fails_keeps_what_it_had_and_lets_the_others_go_on(tmp_path: Path) -> None:
    def half(bench: Bench, found: Figures) -> None:
        found["lines"] = [{"what": "half", "rows": 1, "ms": 1.0, "tokens_per_s": 1000.0}]
        raise RuntimeError("no kernel image is available")

    def absent(bench: Bench, found: Figures) -> None:
        raise Absent("transformers is not installed")

    def whole(bench: Bench, found: Figures) -> None:
        found["goals"] = [ratio("all", 1, [1.0], [1.0])]

    path = tmp_path / "found.json"
    found = measure(bench_of(), [Part("a", half, 9), Part("b", absent, 9), Part("c", whole, 9)], path)
    assert [one["state"] for one in found.values()] == ["failed", "left out", "done"]
    assert found["a"]["reason"] == "RuntimeError: no kernel image is available"
    assert found["a"]["lines"]
    assert json.loads(path.read_text()) == found
    console = Console(record=True, width=100, file=StringIO())
    report.show(found, console)
    shown = console.export_text()
    assert "a: failed: RuntimeError: no kernel image is available" in shown
    assert "b: left out: transformers is not installed" in shown
    assert "half" in shown


def test_a_part_is_cut_when_its_time_is_over_and_keeps_what_it_had(tmp_path: Path) -> None:
    def endless(bench: Bench, found: Figures) -> None:
        found["lines"] = []
        while True:
            signal.pause()

    found = measure(
        bench_of(), [Part("slow", endless, 0.02), Part("next", lambda *_: None, 9)], tmp_path / "j"
    )
    assert (found["slow"]["state"], found["slow"]["reason"]) == ("left out", "time")
    assert found["slow"]["lines"] == []
    assert found["next"]["state"] == "done"


def test_nothing_begins_when_all_time_is_over(tmp_path: Path) -> None:
    begun: list[str] = []
    parts = [Part("late", lambda *_: begun.append("late"), 9)]
    assert measure(bench_of(seconds=0.0), parts, tmp_path / "j")["late"]["reason"] == "time"
    assert begun == []


def test_time_left_is_that_of_the_part_and_of_all() -> None:
    bench = bench_of(seconds=100.0)
    with bench.at_most(5.0):
        assert bench.left < 5.1
    assert bench.left > 50
    with pytest.raises(OutOfTime), bench.at_most(0.01):
        signal.pause()


@pytest.mark.parametrize("name", ["decode", "prefill", "mixed", "quantised"])
def test_each_part_measures_what_it_is_for(name: str, known: Bench, tmp_path: Path) -> None:
    found = measure(known, [part(name)], tmp_path / "found.json")[name]
    assert (found["state"], found.get("reason")) == ("done", None)
    assert found["lines"]
    assert all(one["ms"] > 0 and one["tokens_per_s"] > 0 for one in found["lines"])


def test_the_processors_part_of_a_step_is_measured(
    known: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "FLOORS", {3: 1e9})
    found = measure(known, [part("host")], tmp_path / "found.json")["host"]
    if find_spec("triton") is None:
        assert found["reason"] == "triton is not installed"
    else:
        assert [(one["rows"], one["ms"] > 0) for one in found["lines"]] == [(3, True)] * 2
        assert kernels.wanted is None


def test_ceilings_are_measured_and_every_batch_has_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_SIZES", {"cpu": (1 << 22, 256)})
    found: Figures = {}
    floors.ceilings(bench_of(), found)
    assert found["copy_gb_per_s"] > 0
    assert [one["rows"] for one in found["lines"]] == list(TRIAL.decode.rows)


def test_a_peer_that_is_not_installed_is_left_out_and_the_engine_is_still_asked(
    known: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    found = measure(
        known, [part("same"), part("peers"), part("turns")._replace(act=lambda *_: None)], tmp_path / "j"
    )
    for name in ("same", "peers"):
        assert (found[name]["state"], found[name]["reason"]) == ("left out", "transformers is not installed")
    assert found["same"]["different_ids"] > 1
    assert found["turns"]["state"] == "done"


def test_weights_that_are_not_built_are_left_out(known: Bench, tmp_path: Path) -> None:
    known.sizes = TRIAL._replace(ways=("int3",))
    found = measure(known, [part("quantised")], tmp_path / "found.json")["quantised"]
    assert (found["state"], found["reason"]) == ("left out", "weights in int3 are not built yet")


def test_a_server_whose_packages_are_missing_says_which() -> None:
    with pytest.raises(Absent, match=r"no_such_server does not start: .*No module named 'no_such_server'"):
        check_imports("no_such_server")


def test_the_closed_loop_goes_through_the_engine_and_the_gateway(known: Bench) -> None:
    """Over a second: three processes start."""
    found: dict[str, Any] = {}
    loop(known, found)
    assert [(one["rows"], one["what"].rpartition(", ")[2]) for one in found["lines"]] == [
        (1, "the engine"), (1, "the gateway"), (2, "the engine"), (2, "the gateway")
    ]  # fmt: skip
    assert all(one["first_p50_ms"] > 0 for one in found["lines"])
    assert found["notes"] == []


def test_a_part_or_a_device_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--only", "nonsense"]) == 2
    assert "no part nonsense" in capsys.readouterr().out
    if not torch.cuda.is_available():
        assert program.main(["--device", "cuda"]) == 2


def test_the_parts_without_http_need_no_package_of_the_servers() -> None:
    """Over a second: torch is loaded. A machine with a GPU may have torch, Triton and safetensors alone."""
    absent = (
        "httptools",
        "uvicorn",
        "orjson",
        "starlette",
        "pydantic",
        "uvloop",
        "transformers",
        "llguidance",
    )
    lines = ["import sys", f"sys.modules.update(dict.fromkeys({absent}))", "import loadtests.__main__"]
    lines += ["sys.argv = ['loadtests', 'engine', '--help']", "loadtests.__main__.main()"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert "--seconds" in done.stdout, done.stderr
