"""Fused steps against the plain ones that they stand for, and NaN where nothing is to be read or written."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from torch.nn import functional  # noqa: E402

from local_backend.kernels import fused  # noqa: E402
from local_backend.layers import Rotary, rotate  # noqa: E402


@pytest.mark.parametrize("size", [32, 80, 4100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_added_is_normed(size: int, dtype: Any, device: str) -> None:
    torch.manual_seed(1)
    x, more = torch.randn(3, size, device=device), torch.randn(3, size, device=device).to(dtype)
    weight = torch.randn(size, device=device) + 1
    expected = x + more.float() * 0.5
    found = fused.add_norm(x, more, 0.5, weight, 1e-5, dtype)
    assert found.dtype is dtype
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(found, functional.rms_norm(expected, (size,), weight, 1e-5).to(dtype))
    alone = fused.add_norm(x, None, 1.0, weight, 1e-5, torch.float32)
    torch.testing.assert_close(alone, functional.rms_norm(expected, (size,), weight, 1e-5))
    torch.testing.assert_close(x, expected)


def test_rows_that_lie_apart_are_normed_in_place(device: str) -> None:
    torch.manual_seed(2)
    rows, weight = torch.randn(4, 100, device=device), torch.randn(48, device=device)
    expected = torch.cat([functional.rms_norm(rows[:, :48], (48,), weight, 1e-6), rows[:, 48:]], 1)
    fused.norm_in_place(rows[:, :48], weight, 1e-6)
    torch.testing.assert_close(rows, expected)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("size", [7, 1500])
def test_gates_are_those_of_torch(gelu: bool, size: int, device: str) -> None:
    torch.manual_seed(3)
    rows = torch.randn(3, 2 * size, device=device) * 4
    gate, up = rows.chunk(2, -1)
    gate = functional.gelu(gate, approximate="tanh") if gelu else functional.silu(gate)
    torch.testing.assert_close(fused.gated(rows, gelu), gate * up)


@pytest.mark.parametrize(
    ("heads", "kv", "size", "turned", "normed"),
    [
        (4, 2, 64, 64, True),
        (3, 1, 80, 80, False),
        (14, 2, 16, 8, True),
        (2, 2, 96, 0, True),
        (1, 1, 16, 0, False),
    ],
)
def test_heads_are_normed_turned_and_stored(
    heads: int, kv: int, size: int, turned: int, normed: bool, device: str
) -> None:
    torch.manual_seed(4)
    rows = torch.randn(5, heads + 2 * kv, size, device=device)
    q_norm, k_norm = torch.randn(2, size, device=device)
    turn = None
    if turned:
        cos, sin = Rotary(turned, 64, 1e4)(torch.tensor([3, 0, 41, 7, 8]))
        turn = cos.to(device), sin.to(device)
    slots = torch.tensor([9, 0, -1, 5, 11], device=device)
    keys, values = torch.full((2, 3, 4, kv, size), torch.nan, device=device)
    given = rows.clone()
    norms = (q_norm, k_norm, 1e-6) if normed else None
    found = fused.turn_and_store(rows, heads, norms, turn, keys, values, slots)

    q, k, v = given.split([heads, kv, kv], 1)
    if normed:
        q, k = (functional.rms_norm(one, (size,), w, 1e-6) for one, w in ((q, q_norm), (k, k_norm)))
    if turn is not None:
        q, k = rotate(q, turn), rotate(k, turn)
    torch.testing.assert_close(found, q)
    written = slots >= 0
    for cache, expected in ((keys, k), (values, v)):
        flat = cache.flatten(0, 1)
        torch.testing.assert_close(flat[slots[written]], expected[written])
        others = [slot for slot in range(12) if slot not in slots.tolist()]
        assert flat[others].isnan().all(), "padding cannot write"
