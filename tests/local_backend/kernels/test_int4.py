"""Products of int4 by kernels: the numbers that they are given, and in steady layers every row for itself."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from local_backend import kernels  # noqa: E402
from local_backend.checkpoint import Grouped  # noqa: E402
from local_backend.int4 import Int4, Int4ByKernel, layer_of, unit_of  # noqa: E402
from tests.local_backend.test_int4 import matrix  # noqa: E402


@pytest.fixture(autouse=True)
def _by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "wanted", True)


def on(device: str, given: Grouped) -> Grouped:
    return Grouped(*(one.to(device) for one in given))


@pytest.mark.parametrize(
    ("outputs", "inputs", "group", "shuffled", "rows"),
    [
        (40, 256, 64, False, 3),
        (70, 320, 32, True, 1),
        (16, 512, 256, True, 17),
        (33, 128, 128, False, 65),
        (9, 4736, 128, False, 1),
        (35, 640, 128, False, 257),
    ],
)
@pytest.mark.parametrize(
    ("kind", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01), (torch.float16, 0.01)]
)
def test_what_is_multiplied_are_the_numbers_that_are_meant(
    outputs: int, inputs: int, group: int, shuffled: bool, rows: int, kind: Any, error: float, device: str
) -> None:
    given = matrix(outputs, inputs, group, shuffled=shuffled)
    bias, x = torch.randn(outputs), torch.randn(rows, inputs)
    expected = x @ given.dense().T + bias
    layer = layer_of(on(device, given), bias.to(device), kind)
    assert isinstance(layer, Int4ByKernel)
    found = layer(x.to(device)).cpu()
    assert found.dtype is torch.float32
    assert (found - expected).norm() / expected.norm() < error


def test_a_steady_row_depends_on_no_other(device: str) -> None:
    layer, x = Int4ByKernel(on(device, matrix()), None, torch.float32), torch.randn(18, 256, device=device)
    layer.steady = True
    together = layer(x)
    for row in (0, 7, 17):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


def test_any_number_of_outputs_has_a_product_where_kernels_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unit_of(matrix(outputs=24, group=96)) == 32
    assert layer_of(matrix(group=16), None, torch.float32) is None
    monkeypatch.setattr(kernels, "wanted", False)
    assert isinstance(layer_of(matrix(), None, torch.float32), Int4)
    assert layer_of(matrix(outputs=24), None, torch.float32) is None
