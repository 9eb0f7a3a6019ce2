"""Products of fp8 by kernels against the plain ones, whose sums are exact."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from local_backend import kernels  # noqa: E402
from local_backend.fp8 import Fp8, by_rows  # noqa: E402
from local_backend.kernels import fp8  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_rounded_as_they_are_without_kernels(dtype: Any, device: str) -> None:
    torch.manual_seed(1)
    x = (torch.randn(3, 1500) * torch.tensor([[1e-3], [1.0], [100.0]])).to(dtype)
    x[1, 7] = 0
    rows, step = fp8.by_rows(x.to(device))
    expected, scale = by_rows(x)
    torch.testing.assert_close(step.cpu(), scale)
    assert torch.equal(rows.cpu().float(), expected.float())


@pytest.mark.parametrize(
    ("rows", "outputs", "inputs", "biased"), [(1, 40, 300, False), (3, 64, 256, True), (16, 7, 20, True)]
)
def test_few_rows_are_multiplied_as_they_are_without_kernels(
    rows: int, outputs: int, inputs: int, biased: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    layer = Fp8.of(torch.randn(outputs, inputs), torch.randn(outputs) if biased else None)
    x = torch.randn(rows, inputs)
    monkeypatch.setattr(kernels, "wanted", False)
    expected = layer(x)
    monkeypatch.setattr(kernels, "wanted", True)
    torch.testing.assert_close(layer.to(device)(x.to(device)).cpu(), expected, rtol=1e-5, atol=1e-5)


def test_a_row_alone_is_the_same_bits_as_among_few(device: str) -> None:
    torch.manual_seed(3)
    weight, scale = (one.to(device) for one in by_rows(torch.randn(32, 500)))
    rows, step = fp8.by_rows(torch.randn(5, 500).to(device))
    together = fp8.product(rows, step, weight, scale, None, torch.float32)
    for at in range(5):
        alone = fp8.product(rows[at : at + 1], step[at : at + 1], weight, scale, None, torch.float32)
        assert torch.equal(alone[0], together[at])
