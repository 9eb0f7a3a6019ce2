"""What is computed by graphs is what is computed operation by operation. Without a GPU the same is run uncaptured."""

from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from local_backend import kernels  # noqa: E402
from local_backend.cache import Kept, scales_of  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.graphs import SHORT, Graphs  # noqa: E402
from local_backend.kernels.attention import Tiles, attend  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.paged import rows_of, work_of, work_of_decodes  # noqa: E402
from local_backend.seats import paddings  # noqa: E402
from local_backend.types import Delta, Finish, Job, Sampling  # noqa: E402
from tests.local_backend.kernels.test_attention import Case, fill  # noqa: E402
from tests.local_backend.kernels.test_model import SHAPES, model  # noqa: E402

PROMPTS = [[(7 * row + at) % 64 for at in range(length)] for row, length in enumerate((2, 5, 9))]


class Said(NamedTuple):
    engine: Engine
    deltas: list[list[Delta]]  # of each choice of each prompt, in turn
    shapes: set[tuple[int, int]]  # rows and splits of the graphs that were used

    @property
    def ids(self) -> list[list[int]]:
        return [[token for delta in deltas for token in delta.ids] for deltas in self.deltas]


@pytest.fixture(autouse=True)
def _by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "wanted", True)


def say(made: Any, sampling: list[Sampling], choices: int = 1, **config: Any) -> Said:
    """One prompt comes in after the other."""
    engine = Engine(made, EngineConfig(**{"block_size": 4, **config}))
    heard: list[list[Delta]] = [[] for _ in PROMPTS for _ in range(choices)]
    for index, (prompt, asked) in enumerate(zip(PROMPTS, sampling, strict=True)):
        mine = heard[index * choices : (index + 1) * choices]
        engine.add(Job(prompt, asked, choices), lambda choice, delta, mine=mine: mine[choice].append(delta))  # type: ignore[misc]
        engine.step()
    while engine.has_work:
        engine.step()
    engine.close()
    engine.pool.check_integrity([])
    made = graphs_of(engine)._made if engine._runner._graphs else ()
    return Said(engine, heard, set(made))


def graphs_of(engine: Engine) -> Graphs:
    """Those of decoding."""
    (found,) = (one for one in engine._runner._graphs if isinstance(one, Graphs))
    return found


def plainly(made: Any, sampling: list[Sampling], choices: int = 1, **config: Any) -> Said:
    """Without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "wanted", False)
        return say(made, sampling, choices, **config)


GREEDY = Sampling(temperature=0.0, max_tokens=4)
DRAWN = [
    Sampling(temperature=0.8, seed=3, max_tokens=4, top_k=9),
    Sampling(temperature=1.2, seed=4, max_tokens=3, top_p=0.7),
    Sampling(temperature=0.0, max_tokens=2),
]
MORE = [
    Sampling(temperature=0.0, max_tokens=3, logprobs=2),
    Sampling(temperature=0.9, seed=5, max_tokens=3, frequency_penalty=0.9),
    Sampling(temperature=0.0, max_tokens=2, logit_bias=((7, 30.0),)),
]


@pytest.mark.parametrize(
    ("asked", "overlap"),
    [(DRAWN, False), (DRAWN, True), (MORE, True)],
    ids=["drawn", "overlapping", "more than drawn"],
)
def test_the_same_is_said_by_graphs(asked: list[Sampling], overlap: bool, device: str) -> None:
    shape = SHAPES["gemma 3"] | {"windows": (5, 0)}
    expected, found = plainly(model(**shape), asked), say(model(**shape).to(device), asked, overlap=overlap)
    assert found.ids == expected.ids
    for mine, theirs in zip(found.deltas, expected.deltas, strict=True):
        scores = [[one.drawn for delta in deltas for one in delta.logprobs] for deltas in (mine, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert found.shapes


def test_the_same_is_said_operation_by_operation(device: str) -> None:
    found = say(model().to(device), DRAWN, enforce_eager=True)
    assert found.ids == plainly(model(), DRAWN).ids
    assert found.shapes == set()


def test_choices_that_share_blocks_write_to_copies_of_their_own(device: str) -> None:
    asked = [Sampling(temperature=1.0, seed=seed, max_tokens=3) for seed in range(3)]
    found = say(model().to(device), asked, choices=2)
    assert found.ids == plainly(model(), asked, choices=2).ids
    assert any(one != other for one, other in zip(found.ids[::2], found.ids[1::2], strict=True))


def test_who_made_room_and_comes_back_is_told_its_table_anew(device: str) -> None:
    few = 7 * 4 * model().config.kv_bytes(4)  # bytes of six blocks of four tokens, and the one for padding
    found = say(model().to(device), [GREEDY] * 3, kv_memory=few)
    assert found.engine.scheduler.preemptions > 0
    assert found.ids == plainly(model(), [GREEDY] * 3).ids


def test_fp8_keys_and_values_are_written_and_read_by_graphs(device: str) -> None:
    found = say(model().to(device), [GREEDY] * 3, kv_cache_dtype="fp8")
    assert found.ids == plainly(model(), [GREEDY] * 3, kv_cache_dtype="fp8").ids


def test_padding_writes_nowhere(device: str) -> None:
    engine = Engine(model().to(device), EngineConfig(block_size=4))
    cache = engine._runner._cache
    for kept in cache.layer(0):
        kept.rows.fill_(torch.nan)
    said: list[Delta] = []
    for prompt in PROMPTS:  # three rows in a graph of four
        engine.add(Job(prompt, GREEDY), lambda _, delta: said.append(delta))
    while engine.has_work:
        engine.step()
    graphs = graphs_of(engine)
    assert 4 in {rows for rows, _ in graphs._made}
    assert all(delta.finish is not Finish.ERROR for delta in said)
    keys, values = cache.layer(0)
    written = 4 * 3 + sum(map(len, PROMPTS)) - 3  # the last token of an answer is not computed
    for kept in (keys, values):
        assert kept.rows[0].isnan().all(), "the block of padding"
        assert (~kept.rows.isnan()).any(-1).any(-1).sum() == written


def test_a_graph_with_room_for_more_splits_gives_the_same_bits(device: str) -> None:
    tiles = Tiles(16, 16, 32, 4)
    for window in (0, 19):
        case = Case([(1, 70), (1, 1), (1, 33), (1, 32)], kv=1, window=window)
        filled = fill(case, device)
        lengths = [length for _, length in case.rows]
        rows = rows_of(filled.tables, [1] * 4, lengths, filled.q.device)
        found = []
        for work in (
            work_of(rows, [1] * 4, lengths, window, case.group, tiles),
            work_of_decodes(4, window, tiles),
        ):
            out = torch.full_like(filled.q, torch.nan)
            attend(filled.q, filled.keys, filled.values, out, rows, work, case.size**-0.5)
            found.append(out)
        assert torch.equal(*found)
        torch.testing.assert_close(found[0], filled.expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_keys_and_values_in_fp8_are_answered_as_they_are_read(dtype: Any, most: float, device: str) -> None:
    case = Case([(1, 70), (4, 35)], dtype=dtype)
    filled = fill(case, device)
    kept = []
    for plain in (filled.keys, filled.values):
        scales = torch.zeros_like(plain[..., 0], dtype=torch.float32)
        small = Kept(torch.zeros_like(plain, dtype=torch.float8_e4m3fn), scales)
        tokens = plain.flatten(0, 1).nan_to_num()
        small.put(torch.arange(len(tokens), device=plain.device), tokens)
        kept.append(small)
    every = torch.arange(len(filled.keys), device=filled.q.device)
    keys, values = (one.of(every) for one in kept)
    sizes, lengths = (list(column) for column in zip(*case.rows, strict=True))
    rows = rows_of(filled.tables, sizes, lengths, filled.q.device)
    work = work_of(rows, sizes, lengths, 0, case.group, Tiles(16, 16, 32, 4))
    found, expected = (torch.full_like(q, torch.nan) for q in (filled.q, filled.expected))
    scale = case.size**-0.5
    attend(filled.q, kept[0].rows, kept[1].rows, found, rows, work, scale, scales=scales_of(*kept))
    attend(filled.q.float(), keys, values, expected, rows, work, scale)
    torch.testing.assert_close(found.float(), expected, rtol=most, atol=most)
    torch.testing.assert_close(found.float(), filled.expected, rtol=0.2, atol=0.2)


def test_rows_that_nobody_has_look_up_nothing_that_is_not_there(device: str) -> None:
    engine = Engine(model().to(device), EngineConfig(block_size=4))
    graphs = graphs_of(engine)
    graphs._drawn.fill_(1 << 40)
    with torch.inference_mode():
        graphs._compute(4, 1)
    assert (graphs._drawn[:4] < model().config.vocab_size).all()
    engine.close()


@pytest.mark.parametrize("cut", [3, 64])
def test_short_prompts_are_computed_by_graphs_beside_answers(cut: int, device: str) -> None:
    """Each token in a row of its own; and however they are cut into steps."""
    found = say(model().to(device), DRAWN, step_tokens=cut)
    assert found.ids == plainly(model(), DRAWN).ids
    assert {rows for rows, _ in found.shapes} >= ({8} if cut == 64 else {2, 4})


def test_drafts_are_tried_by_graphs(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two = ((7, 9.0), (8, 9.0))  # so that drafts are drawn, and not all of them
    drawn = [Sampling(temperature=0.9, seed=seed, max_tokens=14, logit_bias=two) for seed in range(3)]
    for sampling in (drawn, [Sampling(temperature=0.0, max_tokens=14)] * 3):
        expected = plainly(model(), sampling)
        with monkeypatch.context() as patch:
            patch.setattr("local_backend.runner.Runner._prepared", None)  # nothing is launched by itself
            found = say(model().to(device), sampling, speculate=3)
        assert found.ids == expected.ids
        assert found.engine.metrics.drafts >= found.engine.metrics.drafts_drawn > 0


def test_a_long_prompt_is_not_cut_into_rows(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_backend.graphs.SHORT", 4)
    found = say(model().to(device), [GREEDY] * 3)
    assert found.ids == plainly(model(), [GREEDY] * 3).ids
    assert max(rows for rows, _ in found.shapes) == 4, "decodes, and the prompt of two tokens"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: there is nothing to capture")
def test_all_graphs_are_captured_before_anybody_waits() -> None:
    engine, told = Engine(model().to("cuda"), EngineConfig(max_seqs=4)), list[str]()
    engine.warm(told.append)
    graphs = graphs_of(engine)
    assert {rows for rows, _ in graphs._made} == set(paddings(SHORT))
    assert told[-1] == f"{len(graphs._made)} of {len(graphs._made)} steps are captured"
    engine.close()
