"""By --deterministic a row is the same bits alone, in a batch, and however its prompt was cut."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from local_backend import kernels, paged  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.kernels.attention import Tiles  # noqa: E402
from local_backend.kernels.product import product  # noqa: E402
from local_backend.layers import hold_steady  # noqa: E402
from local_backend.loader import build  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.types import Delta, Job, Sampling  # noqa: E402
from tests.local_backend.kernels.test_model import Made, model  # noqa: E402

LONG = [(5 * at + 3) % 64 for at in range(19)]
OTHERS = [[7, 8, 9], [14, 15]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "outputs", "inputs", "biased"), [(1, 70, 100, True), (65, 64, 32, False)])
def test_products_are_those_of_torch(
    rows: int, outputs: int, inputs: int, biased: bool, dtype: Any, device: str
) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    bias = torch.randn(outputs).to(dtype) if biased else None
    expected = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    found = product(x.to(device), weight.to(device), None if bias is None else bias.to(device))
    torch.testing.assert_close(found.cpu(), expected.to(dtype))


def scores(made: Any, prompts: list[list[int]], **config: Any) -> list[float]:
    """Of the first prompt's answer, the logarithms of its tokens' probabilities, to the last bit."""
    engine = Engine(made, EngineConfig(block_size=4, deterministic=True, **config))
    told: list[Delta] = []
    first, *others = prompts
    for other in others:
        engine.add(Job(other, Sampling(temperature=0.0, max_tokens=2)), lambda *_: None)
    engine.add(
        Job(first, Sampling(temperature=0.0, max_tokens=3, logprobs=0)), lambda _, delta: told.append(delta)
    )
    while engine.has_work:
        engine.step()
    engine.close()
    return [one.drawn for delta in told for one in delta.logprobs]


@pytest.mark.parametrize("quantize", ["none", "fp8"])
def test_an_answer_has_the_same_bits_alone_and_in_company(
    quantize: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "wanted", True)
    tiles = {
        True: Tiles(16, 16, 16, 4),
        False: Tiles(32, 16, 0, 4),
    }  # as if the texts were long: decodes are split
    monkeypatch.setattr(paged, "tiles_for", lambda group, size, few, rows: tiles[few])
    plain = model(layers=1)
    made = build(plain.config, Made(plain, device), torch.float32, quantize)
    hold_steady(made)
    alone = scores(made, [LONG])
    assert len(alone) == 3
    assert scores(made, [LONG], enforce_eager=True) == alone, "operation by operation"
    assert scores(made, [LONG, *OTHERS], step_tokens=18, enforce_eager=True) == alone
    assert scores(made, [LONG, *OTHERS], step_tokens=18) == alone, "in pieces, some of them short"
