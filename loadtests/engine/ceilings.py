"""What the device could do at best, measured in the same run: copy, matrix product, and a shape's own layers."""

import statistics

import torch
from torch.nn import functional

from loadtests.engine.bench import Bench, Figures
from local_backend.config import ModelConfig

_TIMES = 5


def ceilings(bench: Bench, dtype: torch.dtype) -> Figures:
    """GB/s read and written by a copy; TFLOP/s of a square product of random numbers (zeros run faster)."""
    amount, side = ((4 << 30), 8192) if bench.on_gpu else ((256 << 20), 1536)
    source = torch.empty(amount // 4, device=bench.device).normal_()
    target = torch.empty_like(source)
    copied = _median(bench, lambda: target.copy_(source))
    left, right = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    multiplied = _median(bench, lambda: left @ right)
    return {
        "copy_gb_per_s": round(2 * amount / copied / 1e9, 2),
        "product_tflop_per_s": round(2 * side**3 / multiplied / 1e12, 3),
    }


def linears(bench: Bench, config: ModelConfig, dtype: torch.dtype, rows: int) -> float:
    """Seconds of one step's products alone, at that many rows; weights rotate so that no cache holds them."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    layers = [(queries + 2 * keys, hidden), (hidden, queries), (2 * inner, hidden), (hidden, inner)]
    each = sum(
        _product(bench, outputs, inputs, rows, dtype, min(12, config.layers)) for outputs, inputs in layers
    )
    return config.layers * each + _product(bench, config.vocab_size, hidden, rows, dtype, 2)


def _product(bench: Bench, outputs: int, inputs: int, rows: int, dtype: torch.dtype, copies: int) -> float:
    """Seconds of one product."""
    weights = [
        torch.empty(outputs, inputs, device=bench.device, dtype=dtype).normal_(0, 0.02) for _ in range(copies)
    ]
    x = torch.randn(rows, inputs, device=bench.device).to(dtype)

    def act() -> None:
        for weight in weights:
            functional.linear(x, weight)

    return _median(bench, act) / copies


def _median(bench: Bench, act: object) -> float:
    assert callable(act)
    act()
    return statistics.median(bench.seconds(act) for _ in range(_TIMES))


def step_bytes(config: ModelConfig, per_weight: float, rows: int, context: int, per_key: int) -> float:
    """Read by one step: every weight of the matrices once, keys and values of every row."""
    tables = config.vocab_size * config.hidden_size
    weights = config.parameters - (0 if config.tied else tables)  # of the input table a few rows are read
    cache = 2 * config.layers * config.kv_heads * config.head_dim * per_key * context * rows
    return weights * per_weight + cache


def step_flops(config: ModelConfig, rows: int) -> float:
    tables = config.vocab_size * config.hidden_size
    return 2.0 * rows * (config.parameters - (0 if config.tied else tables))
