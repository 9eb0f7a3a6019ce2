"""Linear layers of fp8: what they add up is exact, and every row is for itself."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend import fp8  # noqa: E402
from local_backend.fp8 import E4M3, Fp8, Fp8Embedding, by_rows, widen  # noqa: E402


def test_fp8_is_the_product_of_rounded_numbers_written_out() -> None:
    torch.manual_seed(1)
    weight, bias, x = torch.randn(48, 64), torch.randn(48), torch.randn(5, 64)
    x[3] *= 1000  # a row of another size must not coarsen the others
    layer = Fp8.of(weight, bias)
    scale, step = (one.abs().amax(1, keepdim=True) / 448 for one in (weight, x))
    rounded, known = (weight / scale).to(E4M3).double(), (x / step).to(E4M3).double()
    expected = ((known @ rounded.T).float() * step * scale.T) + bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)
    exact = x @ weight.T + bias
    assert ((layer(x) - exact).norm(dim=1) / exact.norm(dim=1)).max() < 0.06


def test_an_fp8_row_depends_on_no_other() -> None:
    torch.manual_seed(2)
    layer, x = Fp8.of(torch.randn(96, 128), None), torch.randn(33, 128)
    together = layer(x)
    for row in range(33):
        assert torch.equal(layer(x[row : row + 1])[0], together[row])


def test_a_large_matrix_is_taken_slice_by_slice_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    weight, x = torch.randn(50, 64, dtype=torch.bfloat16), torch.randn(3, 64)
    at_once = Fp8.of(weight, None)(x)
    monkeypatch.setattr(fp8, "_SLICE", 16 * 64)
    assert torch.equal(Fp8.of(weight, None)(x), at_once)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_every_number_of_fp8_is_widened_to_itself(kind: Any) -> None:
    numbers = torch.arange(256, dtype=torch.uint8)
    numbers = numbers[(numbers & 127) < 127].view(E4M3)  # all but NaN
    assert torch.equal(widen(numbers, kind), numbers.to(kind))


def test_a_table_of_fp8_is_read_back_nearly_in_its_kind() -> None:
    weight = torch.randn(10, 64)
    found = Fp8Embedding(*by_rows(weight), torch.bfloat16)(torch.tensor([3, 7]))
    assert found.dtype is torch.bfloat16
    assert ((found.float() - weight[[3, 7]]).abs() / weight.abs().amax(1)[[3, 7], None]).max() < 0.04


def test_a_row_that_overflowed_is_not_a_number_and_spares_the_others() -> None:
    layer, x = Fp8.of(torch.randn(16, 32), None), torch.randn(2, 32)
    alone = layer(x[1:])
    x[0, 5] = torch.inf
    found = layer(x)
    assert found[0].isnan().all()
    assert torch.equal(found[1:], alone)
