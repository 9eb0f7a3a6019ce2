"""A prompt by itself is one graph of more tokens than it has. Without a GPU the same is run uncaptured."""

import gc
import weakref
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from local_backend import kernels  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.prompts import LEAST, MOST, Prompts, paddings  # noqa: E402
from local_backend.types import Delta, Job, Sampling  # noqa: E402
from tests.local_backend.kernels.test_model import SHAPES, model  # noqa: E402

FIRST = [(7 * at + at // 3) % 64 for at in range(70)]
SECOND = FIRST[:40] + [5, 9] * 12  # what it shares is found in the cache


@pytest.fixture(autouse=True)
def _by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "wanted", True)


def say(made: Any, choices: int = 1, **config: Any) -> tuple[list[list[int]], Engine]:
    """One prompt after the other has been answered."""
    engine, heard = Engine(made, EngineConfig(block_size=4, **config)), list[list[int]]()
    sampling = Sampling(temperature=0.9, seed=3, max_tokens=2)
    for prompt in (FIRST, SECOND):
        mine: list[list[int]] = [[] for _ in range(choices)]
        engine.add(Job(prompt, sampling, choices), partial(_hear, mine))
        while engine.has_work:
            engine.step()
        heard += mine
    engine.close()
    return heard, engine


def _hear(heard: list[list[int]], choice: int, delta: Delta) -> None:
    heard[choice] += delta.ids


def plainly(made: Any, choices: int = 1) -> list[list[int]]:
    """Without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "wanted", False)
        return say(made, choices)[0]


def prompts_of(engine: Engine) -> Prompts:
    (found,) = (one for one in engine._runner._graphs if isinstance(one, Prompts))
    return found


@pytest.mark.parametrize(
    ("how", "choices", "lengths"),
    [
        ({}, 1, {64, 128}), ({"overlap": True}, 2, {64, 128}), ({"step_tokens": 30}, 1, {30}),
        ({"kv_cache_dtype": "fp8"}, 1, {64, 128}),
    ],
    ids=["whole", "for two choices", "in pieces", "kept in fp8"],
)  # fmt: skip
def test_the_same_is_said_by_graphs(
    how: dict[str, Any], choices: int, lengths: set[int], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES["gemma 3"]  # it sees some keys through a window
    expected = plainly(model(**shape), choices)
    monkeypatch.setattr("local_backend.runner.Runner._prepared", None)  # nothing is launched by itself
    found, engine = say(model(**shape).to(device), choices, **how)
    assert found == expected
    assert set(prompts_of(engine)._made) == lengths
    assert engine.metrics.hit_tokens == 40


def test_padding_writes_nowhere(device: str) -> None:
    engine, said = Engine(model().to(device), EngineConfig(block_size=4)), list[Delta]()
    for kept in engine._runner._cache.layer(0):
        kept.rows.fill_(torch.nan)
    engine.add(Job(FIRST, Sampling(temperature=0.0, max_tokens=1)), lambda _, delta: said.append(delta))
    while engine.has_work:
        engine.step()
    assert set(prompts_of(engine)._made) == {128}
    assert len(said[0].ids) == 1
    for kept in engine._runner._cache.layer(0):
        assert (~kept.rows.isnan()).any(-1).any(-1).sum() == len(FIRST)


def test_prompts_of_a_few_tokens_or_in_company_are_not_among_them(device: str) -> None:
    engine = Engine(model().to(device), EngineConfig(block_size=4))
    for prompt in (FIRST[:LEAST], SECOND[: LEAST + 1], FIRST[1:30]):
        engine.add(Job(prompt, Sampling(temperature=0.0, max_tokens=2)), lambda *_: None)
        if len(prompt) < 20:
            engine.step()
    while engine.has_work:
        engine.step()
    assert prompts_of(engine)._made == {}


@pytest.mark.parametrize("most", [30, 100, 600, MOST])
def test_little_is_computed_for_nothing(most: int) -> None:
    sizes = paddings(most)
    assert sizes[-1] == most
    assert sizes == sorted(set(sizes))
    assert all(after - before <= max(64, before // 4) for before, after in pairwise(sizes))


def test_what_graphs_read_lives_as_long_as_they_and_no_longer(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A captured graph holds nothing, here as on a GPU."""
    for module in ("prompts", "graphs"):
        monkeypatch.setattr(f"local_backend.{module}.captured", lambda act, pool: int)
    _, engine = say(model().to(device))
    prompts = prompts_of(engine)
    assert prompts._made.keys() == prompts._ways.keys() == {64, 128}
    alive = weakref.ref(prompts._ways[64])
    gc.disable()
    try:
        del engine, prompts
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: there is nothing to capture")
def test_all_lengths_are_captured_before_anybody_waits() -> None:
    engine, told = Engine(model().to("cuda"), EngineConfig(max_seqs=4)), list[str]()
    engine.warm(told.append)
    assert set(prompts_of(engine)._made) == {64, 128}
    torch.full((64, 1024), -1, device="cuda")  # where something is that nobody holds
    heard: list[list[int]] = [[]]
    engine.add(Job(FIRST, Sampling(temperature=0.0, max_tokens=2)), partial(_hear, heard))
    while engine.has_work:
        engine.step()
    assert len(heard[0]) == 2
    assert "2 of 2 lengths of prompts are captured" in told
    engine.close()
