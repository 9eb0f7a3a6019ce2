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
    ("rows", "outputs", "inputs", "biased"), [(2, 40, 300, False), (3, 64, 256, True), (19, 7, 20, True)]
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
    # Hopper's tensor cores keep 14 bits of a sum, and these go up to 60.
    most = 1e-5 if device == "cpu" else 3e-2
    torch.testing.assert_close(layer.to(device)(x.to(device)).cpu(), expected, rtol=1e-5, atol=most)


def test_a_row_alone_is_the_same_bits_as_among_few(device: str) -> None:
    torch.manual_seed(3)
    weight, scale = (one.to(device) for one in by_rows(torch.randn(32, 500)))
    rows, step = fp8.by_rows(torch.randn(5, 500).to(device))
    nobody = torch.full((5, 32), torch.nan, device=device)
    together = fp8.product(rows, step, weight, scale, None, nobody.clone(), 16)
    for at in range(5):
        mine = slice(at, at + 1)
        alone = fp8.product(rows[mine], step[mine], weight, scale, None, nobody[mine], 16)
        assert torch.equal(alone[0], together[at])


@pytest.mark.parametrize("biased", [False, True])
def test_one_row_is_multiplied_as_it_is(biased: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    layer = Fp8.of(torch.randn(40, 300), torch.randn(40) if biased else None)
    x = torch.randn(1, 300)
    wide = layer.weight.double() * layer.scale.double()[:, None]
    expected = torch.nn.functional.linear(
        x.double(), wide, None if layer.bias is None else layer.bias.double()
    )
    monkeypatch.setattr(kernels, "wanted", True)
    torch.testing.assert_close(layer.to(device)(x.to(device)).cpu(), expected.float(), rtol=1e-5, atol=1e-4)
