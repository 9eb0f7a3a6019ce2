"""Linear layers of int4: the numbers that they are given, and every row for itself."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend.checkpoint import Grouped  # noqa: E402
from local_backend.int4 import Int4, unit_of  # noqa: E402


def matrix(outputs: int = 32, inputs: int = 256, group: int = 64, *, shuffled: bool = False) -> Grouped:
    torch.manual_seed(1)
    groups = torch.arange(inputs) // group
    count = int(groups[-1]) + 1
    return Grouped(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8), torch.rand(outputs, count) + 0.5,
        torch.randint(0, 16, (outputs, count)).float(), groups[torch.randperm(inputs)] if shuffled else groups,
    )  # fmt: skip


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("group", [32, 64, 128, 256, 1024])
@pytest.mark.parametrize(
    ("kind", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01), (torch.float16, 0.01)]
)
def test_what_is_multiplied_are_the_numbers_that_are_meant(
    kind: Any, error: float, group: int, shuffled: bool
) -> None:
    given = matrix(group=group, shuffled=shuffled)
    bias, x = torch.randn(32), torch.randn(3, 256)
    expected = x @ given.dense().T + bias
    found = Int4(given, bias, kind)(x)
    assert found.dtype is torch.float32
    assert (found - expected).norm() / expected.norm() < error


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_an_int4_row_depends_on_no_other(kind: Any) -> None:
    layer, x = Int4(matrix(), None, kind), torch.randn(33, 256)
    together = layer(x)
    for row in range(33):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


def test_what_has_no_product_is_told() -> None:
    assert unit_of(matrix(group=96)) == 32
    assert unit_of(matrix(group=256)) == 256
    assert unit_of(matrix(group=16)) == 0
    assert unit_of(matrix(outputs=24)) == 0
