"""Products of a few rows are torch's, whatever does not fill a tile."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from local_backend import kernels  # noqa: E402
from local_backend.fp8 import Fp8  # noqa: E402
from local_backend.kernels.few import product  # noqa: E402
from local_backend.layers import FEW, Dense, gated, gated_product  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("rows", "outputs", "inputs", "biased"), [(1, 70, 104, True), (16, 64, 300, False), (FEW, 33, 520, True)]
)
def test_products_of_a_few_rows_are_those_of_torch(
    rows: int, outputs: int, inputs: int, biased: bool, dtype: Any, device: str
) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    bias = torch.randn(outputs).to(dtype) if biased else None
    expected = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    found = product(
        x.to(device),
        weight.to(device),
        None if bias is None else bias.to(device),
        torch.full((rows, outputs), torch.nan, device=device),
    )
    torch.testing.assert_close(found.cpu(), expected.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["bf16", "fp8"])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_a_gate_is_computed_with_its_product(
    kind: str, gelu: bool, biased: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    layer: Any = Dense(300, 2 * 37, bias=biased).bfloat16()
    if kind == "fp8":
        layer = Fp8.of(layer.weight, layer.bias)
    x = torch.randn(1, 300).bfloat16()
    monkeypatch.setattr(kernels, "wanted", False)
    wide = layer.weight.double() * (layer.scale.double()[:, None] if kind == "fp8" else 1)
    bias = layer.bias.double() if biased else None
    expected = gated(torch.nn.functional.linear(x.double(), wide, bias), gelu)
    monkeypatch.setattr(kernels, "wanted", True)
    found = gated_product(layer.to(device), x.to(device), gelu)
    torch.testing.assert_close(found.cpu(), expected.bfloat16(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("rows", [1, FEW, FEW + 1])
def test_a_layer_gives_the_same_however_many_rows_there_are(
    rows: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "wanted", True)
    torch.manual_seed(2)
    layer = Dense(96, 40).to(device, torch.bfloat16)
    x = torch.randn(rows, 96, device=device)
    expected = torch.nn.functional.linear(x.bfloat16().double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(layer(x), expected.float(), rtol=1e-2, atol=1e-2)
