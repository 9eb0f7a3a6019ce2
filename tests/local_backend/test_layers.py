"""Linear layers of int8: near to fp32, and every row for itself; and tables."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend import layers  # noqa: E402
from local_backend.layers import Int8, Int8Embedding, Table, quantise  # noqa: E402


def test_int8_is_the_product_of_whole_numbers_written_out() -> None:
    torch.manual_seed(1)
    weight, bias, x = torch.randn(48, 64), torch.randn(48), torch.randn(5, 64)
    x[3] *= 1000  # a row of another size must not coarsen the others
    layer = Int8(weight, bias)
    whole, scale = quantise(weight)
    step = x.abs().amax(1, keepdim=True) / 127
    expected = (x / step).round() @ whole.float().T * scale.T * step + bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-3)
    exact = x @ weight.T + bias
    assert ((layer(x) - exact).norm(dim=1) / exact.norm(dim=1)).max() < 0.03


def test_a_large_matrix_is_quantised_slice_by_slice_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, ids = torch.randn(50, 64, dtype=torch.bfloat16), torch.arange(50)
    at_once = Int8Embedding(weight)(ids)
    monkeypatch.setattr(layers, "SLICE", 16)
    assert torch.equal(Int8Embedding(weight)(ids), at_once)


def test_an_int8_row_depends_on_no_other() -> None:
    torch.manual_seed(2)
    layer, x = Int8(torch.randn(96, 128), None), torch.randn(33, 128)
    together = layer(x)
    for row in range(33):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


def test_a_product_that_nobody_lays_out_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which takes outputs by eights and no few rows."""
    torch.manual_seed(3)
    weight, bias, x = torch.randn(50, 64), torch.randn(50), torch.randn(20, 64)
    laid_out = Int8(weight, bias)
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    plain = Int8(weight, bias)
    for rows in (1, 20):
        torch.testing.assert_close(plain(x[:rows]), laid_out(x[:rows]))


def test_a_table_of_int8_is_read_back_nearly() -> None:
    weight = torch.randn(10, 64)
    found = Int8Embedding(weight)(torch.tensor([3, 7]))
    assert (found - weight[[3, 7]]).abs().max() <= weight.abs().max() / 127


def test_a_table_that_lies_nowhere_is_made_without_torchs_compiler() -> None:
    """It takes a second to import, in which nobody would be answered."""
    made = "import sys, torch; from local_backend.layers import Table; Table(3, 2, device='meta')"
    asked = f"{made}; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", asked], check=True)
    assert Table(3, 2).weight.std() > 0
