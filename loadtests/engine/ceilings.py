"""What the device could do at best, measured in the same run: copy, matrix product, and a shape's own layers; and the
floor under a step or a prompt that follows from it."""

import statistics

import torch
from torch.nn import functional

from loadtests.engine.bench import Act, Bench, Figures, line
from loadtests.engine.shapes import config_of
from local_backend.config import ModelConfig

_TIMES = 5
_SIZES = {"cuda": (4 << 30, 8192), "cpu": (256 << 20, 1536)}  # bytes of a copy, and a product's side


def ceilings(bench: Bench, found: Figures) -> None:
    """Copy and product, and every product of a step of decoding, its weights in no cache."""
    found |= ceilings_of(bench)
    found["lines"] = []
    decode = bench.sizes.decode
    for shape in decode.shapes:
        config = config_of(shape)
        for rows in decode.rows:
            bench.tell(f"the products of {shape}, {rows} rows ...")
            seconds = linears(bench, config, rows)
            floor = floor_of_step(bench, config, rows, 0)
            found["lines"].append(
                line(f"{shape}, products alone", rows, seconds, rows / seconds, floor=floor)
            )


def ceilings_of(bench: Bench) -> Figures:
    """Measured once: GB/s read and written by a copy; TFLOP/s of a square product of random numbers (zeros run
    faster)."""
    if "ceilings" not in bench.known:
        bench.tell("copy and matrix product ...")
        amount, side = _SIZES[bench.device.type]
        source = torch.empty(amount // 4, device=bench.device).normal_()
        target = torch.empty_like(source)
        copied = _median(bench, lambda: target.copy_(source))
        left, right = (torch.randn(side, side, device=bench.device).to(bench.dtype) for _ in range(2))
        multiplied = _median(bench, lambda: left @ right)
        bench.known["ceilings"] = {
            "copy_gb_per_s": round(2 * amount / copied / 1e9, 2),
            "product_tflop_per_s": round(2 * side**3 / multiplied / 1e12, 6),
            "product_dtype": bench.sizes.dtype,
        }
    found: Figures = bench.known["ceilings"]
    return found


def linears(bench: Bench, config: ModelConfig, rows: int) -> float:
    """Seconds of one step's products alone, at that many rows; weights rotate so that no cache holds them."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    layers = [(queries + 2 * keys, hidden), (hidden, queries), (2 * inner, hidden), (hidden, inner)]
    each = sum(_product(bench, outputs, inputs, rows, 12) for outputs, inputs in layers)
    return config.layers * each + _product(bench, config.vocab_size, hidden, rows, 2)


def floor_of_step(
    bench: Bench, config: ModelConfig, rows: int, context: float, width: float = 0, kept: int = 0
) -> float:
    """Seconds that a step of decoding takes at least: its weights read once, or multiplied, and its keys and values
    read. `width` and `kept`: bytes of a weight, and of a number of those, where not those of the device's type. Half as
    many of a weight double the product's speed; fewer still are widened first."""
    known, plain = ceilings_of(bench), bench.dtype.itemsize
    copy, product = float(known["copy_gb_per_s"]) * 1e9, float(known["product_tflop_per_s"]) * 1e12
    width = width or plain
    read = matrices(config) * width / copy
    multiplied = 2 * rows * matrices(config) / (product * (plain / width if width >= 1 else 1))
    return max(read, multiplied) + config.kv_bytes(kept or plain) * context * rows / copy


def floor_of_prompt(bench: Bench, config: ModelConfig, length: int) -> float:
    """Seconds that a prompt takes at least: every token through the layers, each seeing all before it."""
    known = ceilings_of(bench)
    tables = config.vocab_size * config.hidden_size
    weights = matrices(config) - tables  # of the last token alone there are logits
    attention = 2.0 * config.layers * config.heads * config.head_dim * length**2
    multiplied = (2.0 * weights * length + attention) / (float(known["product_tflop_per_s"]) * 1e12)
    return max(multiplied, weights * bench.dtype.itemsize / (float(known["copy_gb_per_s"]) * 1e9))


def floor_of_all(bench: Bench, config: ModelConfig, asked: list[int], wanted: list[int]) -> float:
    """Seconds that prompts of these lengths take at least which all are there at once, with so many tokens each to
    follow: every prompt, then a step for each token of whoever has not ended."""
    seconds = sum(floor_of_prompt(bench, config, length) for length in asked)
    for step in range(1, max(wanted)):
        alive = [length + step for length, new in zip(asked, wanted, strict=True) if new > step]
        seconds += floor_of_step(bench, config, len(alive), sum(alive) / len(alive))
    return seconds


def matrices(config: ModelConfig) -> int:
    """Weights that a step reads: of the table of inputs it reads a few rows."""
    return config.parameters - (0 if config.tied else config.vocab_size * config.hidden_size)


def _product(bench: Bench, outputs: int, inputs: int, rows: int, copies: int) -> float:
    """Seconds of one product."""
    weights = [
        torch.empty(outputs, inputs, device=bench.device, dtype=bench.dtype).normal_(0, 0.02)
        for _ in range(copies)
    ]
    x = torch.randn(rows, inputs, device=bench.device).to(bench.dtype)

    def act() -> None:
        for weight in weights:
            functional.linear(x, weight)

    return _median(bench, bench.captured(act) if bench.on_gpu else act) / copies


def _median(bench: Bench, act: Act) -> float:
    act()
    return statistics.median(bench.seconds(act) for _ in range(_TIMES))
