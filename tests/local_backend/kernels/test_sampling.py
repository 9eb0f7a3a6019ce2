"""Draws by kernels against those of `sampler.py`, which is held against numpy."""

from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from torch import Tensor  # noqa: E402

from local_backend.sampler import Sampler, by_kernels  # noqa: E402
from local_backend.types import Draw, Sampling, Sequence  # noqa: E402

SIZE = 200


def draws(count: int, **asked: Any) -> list[Draw]:
    one = Sequence(0, [1], 1, 1 << 30, Sampling(**asked), lambda choice, delta: None)
    return [Draw(0, one, position) for position in range(count)]


def drawn(rows: Tensor, asked: list[Draw], device: str) -> list[int]:
    found: list[int] = by_kernels(rows.to(device), asked, chunk=128).tolist()
    return found


def test_the_likeliest_is_the_first_of_equals(device: str) -> None:
    torch.manual_seed(1)
    rows = torch.randn(6, SIZE)
    rows[0, [5, 150]] = 9.0
    rows[1] = -torch.inf
    rows[1, 77] = -1e30
    found = drawn(rows, draws(6, temperature=0.0, top_k=3, top_p=0.5), device)
    assert found == rows.argmax(-1).tolist()
    assert found[:2] == [5, 77]


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"top_k": 1}, {"top_k": 7}, {"top_k": 199}, {"top_k": 5000}, {"top_p": 1e-6}, {"top_p": 0.7},
        {"min_p": 0.2}, {"top_k": 20, "top_p": 0.8, "min_p": 0.05},
    ],
    ids=str,
)  # fmt: skip
def test_draws_are_those_of_the_plain_sampler(asked: dict[str, Any], device: str) -> None:
    torch.manual_seed(2)
    rows = torch.randn(3, SIZE) * torch.tensor([[0.1], [1.0], [3.0]])  # flat to steep
    wanted = draws(3, temperature=0.8, seed=9, **asked)
    assert drawn(rows, wanted, device) == Sampler(SIZE, ())(rows.clone(), wanted).ids.tolist()


def test_ties_at_the_threshold_and_forbidden_ids_are_treated_as_by_the_plain_sampler(device: str) -> None:
    rows = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0, -0.0, -1.0, -torch.inf]).repeat(3, 1)
    for asked in ({"top_k": 2}, {"top_k": 5}, {"top_p": 0.6}, {"top_k": 8}, {"top_p": 0.999}):
        wanted = draws(3, temperature=3.0, seed=4, **asked)
        assert drawn(rows, wanted, device) == Sampler(8, ())(rows.clone(), wanted).ids.tolist()


def test_draws_follow_the_probabilities(device: str) -> None:
    torch.manual_seed(3)
    row, count = torch.randn(6), 200
    found = drawn(row.repeat(count, 1), draws(count, temperature=0.7, seed=3), device)
    expected = (row / 0.7).softmax(-1).numpy() * count
    chi = ((numpy.bincount(found, minlength=6) - expected) ** 2 / expected).sum()
    assert chi < 20.5, "5 degrees of freedom, one chance in a thousand"


def test_a_row_draws_the_same_whoever_shares_the_batch(device: str) -> None:
    torch.manual_seed(5)
    rows = torch.randn(4, SIZE)
    mixed = [
        draws(8, temperature=1.0, seed=1, top_p=0.9)[7],
        draws(8, temperature=0.0)[7],
        draws(8, temperature=1.0, seed=1, top_k=40)[7],
        draws(8, temperature=1.0, seed=1)[7],
    ]
    together = drawn(rows, mixed, device)
    assert together == [drawn(rows[at : at + 1], [one], device)[0] for at, one in enumerate(mixed)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_drawn_from_nonsense_is_in_the_vocabulary(temperature: float, device: str) -> None:
    rows = torch.full((2, SIZE), torch.nan)
    assert all(0 <= token < SIZE for token in drawn(rows, draws(2, temperature=temperature), device))
