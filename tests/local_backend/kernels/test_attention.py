"""Paged attention against the same written out in fp32, over caches full of NaN where nobody has written."""

import random
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from torch import Tensor  # noqa: E402

from local_backend.kernels.attention import Rows, Tiles, attend  # noqa: E402
from local_backend.paged import rows_of, tiles_for, work_of, work_of_decodes  # noqa: E402

WHOLE, SPLIT = Tiles(16, 16, 0, 4), Tiles(16, 16, 32, 4)


class Case(NamedTuple):
    """Rows of (queries, keys), and the shape of the model that they are asked of."""

    rows: list[tuple[int, int]]
    kv: int = 2
    group: int = 2
    size: int = 64
    block: int = 16
    window: int = 0
    softcap: float = 0.0
    dtype: Any = torch.float32


class Filled(NamedTuple):
    q: Tensor
    keys: Tensor
    values: Tensor
    tables: list[list[int]]
    expected: Tensor


def fill(case: Case, device: str, seed: int = 1) -> Filled:
    """A cache that is NaN but for the rows' own keys, in blocks without order; and what is to come out."""
    torch.manual_seed(seed)
    counts = [-(-length // case.block) for _, length in case.rows]
    order = random.Random(seed).sample(range(sum(counts) + 3), sum(counts))
    shape = (sum(counts) + 3, case.block, case.kv, case.size)
    cache = torch.full((2, *shape), torch.nan, dtype=case.dtype)
    tables, queries, answers = [], [], []
    for (asked, length), count in zip(case.rows, counts, strict=True):
        table, order = order[:count], order[count:]
        tables.append(table)
        k, v = torch.randn(2, length, case.kv, case.size).to(case.dtype)
        q = torch.randn(asked, case.kv * case.group, case.size).to(case.dtype)
        for at in range(length):
            cache[:, table[at // case.block], at % case.block] = torch.stack([k[at], v[at]])
        queries.append(q)
        answers.append(written_out(case, q.float(), k.float(), v.float()))
    keys, values = cache.to(device)
    return Filled(torch.cat(queries).to(device), keys, values, tables, torch.cat(answers).to(device))


def written_out(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    asked, length = len(q), len(k)
    k, v = (one.repeat_interleave(case.group, 1) for one in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * case.size**-0.5
    if case.softcap:
        scores = (scores / case.softcap).tanh() * case.softcap
    at, spots = torch.arange(length - asked, length)[:, None], torch.arange(length)
    hidden = spots > at
    if case.window:
        hidden |= spots <= at - case.window
    found: Tensor = torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)
    return found


def answer(case: Case, filled: Filled, tiles: Tiles) -> Tensor:
    sizes, lengths = (list(column) for column in zip(*case.rows, strict=True))
    rows = rows_of(filled.tables, sizes, lengths, filled.q.device)
    work = work_of(rows, sizes, lengths, case.window, case.group, tiles)
    out: Tensor = torch.full_like(filled.q, torch.nan)
    attend(filled.q, filled.keys, filled.values, out, rows, work, case.size**-0.5, case.softcap)
    return out


MIXED = [(1, 70), (3, 3), (9, 41), (1, 1)]
CASES = {
    "prompts and decodes": Case(MIXED),
    "windowed": Case(MIXED, window=19),
    "window of one": Case([(1, 40), (3, 34)], window=1, size=16),
    "windowed, soft caps, groups of three": Case(MIXED, group=3, kv=1, window=35, softcap=1.0),
    "head size 80, groups of seven": Case([(1, 70), (4, 35)], group=7, kv=1, size=80),
    "head size 96, no groups": Case([(1, 70), (9, 41)], group=1, size=96),
    "head size 256, blocks of 32": Case([(1, 70), (4, 35)], kv=1, size=256, group=4, block=32),
    "one kv head for twenty": Case([(1, 40), (2, 2)], kv=1, group=20),
    "blocks of five": Case(MIXED, block=5, kv=1),
    "fp16": Case([(1, 70), (4, 35)], dtype=torch.float16),
    "bf16": Case([(1, 70), (4, 35)], dtype=torch.bfloat16),
}


def check(case: Case, tiles: Tiles, device: str) -> None:
    filled = fill(case, device)
    tolerance = 2e-5 if case.dtype is torch.float32 else 2e-2
    found = answer(case, filled, tiles._replace(lines=32) if case.group > 16 else tiles).float()
    torch.testing.assert_close(found, filled.expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tiles", [WHOLE, SPLIT], ids=["whole", "split"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ragged_rows_are_answered_as_in_fp32(case: Case, tiles: Tiles, device: str) -> None:
    check(case, tiles, device)


@pytest.mark.parametrize("seed", range(4))
def test_shapes_at_random_are_answered_as_in_fp32(seed: int, device: str) -> None:
    pick = random.Random(seed)
    lengths = [pick.randint(1, 90) for _ in range(pick.randint(1, 3))]
    case = Case(
        [(pick.choice([1, 1, pick.randint(1, min(length, 8))]), length) for length in lengths],
        kv=pick.choice([1, 2]), group=pick.choice([1, 2, 4, 5]), size=pick.choice([64, 80, 96, 112, 128]),
        block=pick.choice([8, 16, 32]), window=pick.choice([0, 0, pick.randint(1, 60)]),
        softcap=pick.choice([0.0, 3.0]),
    )  # fmt: skip
    check(case, pick.choice([WHOLE, SPLIT, Tiles(32, 32, 64, 4)]), device)


@pytest.mark.parametrize("tiles", [WHOLE, SPLIT], ids=["whole", "split"])
def test_a_row_alone_is_the_same_bits_as_in_a_batch(tiles: Tiles, device: str) -> None:
    case = Case(MIXED, kv=1, window=50)
    filled = fill(case, device)
    together, first = answer(case, filled, tiles), 0
    for table, row in zip(filled.tables, MIXED, strict=True):
        mine = slice(first, first + row[0])
        alone = answer(
            case._replace(rows=[row]), filled._replace(q=filled.q[mine].clone(), tables=[table]), tiles
        )
        assert torch.equal(alone, together[mine])
        first += row[0]


@pytest.mark.parametrize("window", [0, 19])
@pytest.mark.parametrize("tiles", [WHOLE, SPLIT], ids=["whole", "split"])
def test_padding_between_decodes_is_neither_read_nor_written(tiles: Tiles, window: int, device: str) -> None:
    filled = fill(Case([(1, 70), (1, 35)], kv=1, window=window), device)
    nowhere, real = [2**20] * 5, torch.tensor([0, 2])
    tables = torch.tensor(
        [filled.tables[0], nowhere, filled.tables[1] + [2**20] * 2, nowhere], dtype=torch.int32
    )
    lengths = torch.tensor([70, 0, 35, 0], dtype=torch.int32)
    rows = Rows(*(one.to(device) for one in (tables, lengths, lengths, lengths)))
    q = torch.full((4, *filled.q.shape[1:]), torch.nan, device=device)
    q[real] = filled.q
    out = torch.full_like(q, torch.nan)
    attend(q, filled.keys, filled.values, out, rows, work_of_decodes(8, window, tiles), 64**-0.5)
    torch.testing.assert_close(out[real], filled.expected, rtol=2e-5, atol=2e-5)
    assert out[1::2].isnan().all()


@pytest.mark.parametrize("group", [1, 3, 7, 8, 20, 71])
@pytest.mark.parametrize("size", [64, 80, 128, 256])
def test_tiles_hold_whole_groups_and_splits_whole_tiles(group: int, size: int) -> None:
    for few in (True, False):
        for rows in (1, 32, 256):
            tiles = tiles_for(group, size, few, rows)
            assert tiles.lines >= group
            assert tiles.split % tiles.keys == 0
            assert bool(tiles.split) == few
