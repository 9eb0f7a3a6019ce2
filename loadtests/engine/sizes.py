"""How much is measured on which device. The processor's sizes are small: they exercise the program that a GPU is
measured with, and are figures of their own."""

from typing import NamedTuple


class Decode(NamedTuple):
    """Batches of `rows` with `context` tokens each: `warm` steps that do not count, then `new` that do."""

    shapes: tuple[str, ...]
    rows: tuple[int, ...]
    context: int
    warm: int
    new: int

    @property
    def mean_context(self) -> int:
        return self.context + self.warm + self.new // 2


class Prefill(NamedTuple):
    """One prompt of `length` tokens, at most `chunks` of them in a step."""

    shapes: tuple[str, ...]
    length: int
    chunks: tuple[int, ...]


class Mixed(NamedTuple):
    """Requests all there at once, with `least` to `most` tokens in and as many out, none like another."""

    shapes: tuple[str, ...]
    requests: int
    least: int
    most: int


class Load(NamedTuple):
    """Over HTTP: every client asks with `prompt` tokens for `new` more, all at once."""

    clients: int
    prompt: int
    new: int


class Sizes(NamedTuple):
    """`goals`: smallest share of the floor that a part is to reach, by shape and rows or by the part's name."""

    dtype: str
    step_tokens: int
    decode: Decode
    prefill: Prefill
    mixed: Mixed
    http_shape: str
    loads: tuple[Load, ...]  # in the order of their worth
    quantised: Decode
    ways: tuple[str, ...]  # beside bf16
    peers: Decode
    goals: dict[tuple[str, int | str], float]


_8B, _06B = "Llama-3.1-8B", "Qwen3-0.6B"
_BOTH = (_8B, _06B)

GPU = Sizes(
    dtype="bfloat16",
    step_tokens=8192,
    decode=Decode(_BOTH, (1, 8, 32, 128, 256), 1024, 20, 128),
    prefill=Prefill(_BOTH, 8192, (8192, 2048)),
    mixed=Mixed(_BOTH, 256, 100, 1024),
    http_shape=_8B,
    loads=(
        Load(1, 1024, 128), Load(256, 1000, 1000), Load(32, 1024, 128), Load(64, 1000, 1000), Load(8, 1024, 128),
        Load(128, 1024, 128), Load(256, 1024, 128), Load(128, 1000, 1000),
    ),
    quantised=Decode((_8B,), (1, 8, 32, 128), 1024, 20, 64),
    ways=("fp8", "int4", "fp8 keys", "deterministic"),
    peers=Decode(_BOTH, (1, 32, 8), 1024, 4, 128),
    goals={
        (_8B, 1): 0.85, (_8B, 8): 0.84, (_8B, 32): 0.83, (_8B, 128): 0.80, (_8B, 256): 0.78,
        (_06B, 1): 0.40, (_06B, 8): 0.50, (_06B, 32): 0.61, (_06B, 128): 0.71, (_06B, 256): 0.72,
        (_8B, "prefill"): 0.78, (_06B, "prefill"): 0.59, (_8B, "mixed"): 0.70, (_06B, "mixed"): 0.60,
        (_8B, "loop"): 0.70, (_8B, "fp8"): 1.5, (_8B, "int4"): 1.0,
    },
)  # fmt: skip
CPU = Sizes(
    dtype="float32",
    step_tokens=512,
    decode=Decode(("small, long context",), (1, 8, 32), 256, 4, 32),
    prefill=Prefill(("small, long context",), 2048, (2048, 512)),
    mixed=Mixed(("tiny, long context",), 64, 100, 1024),
    http_shape="small, long context",
    loads=(Load(1, 128, 64), Load(32, 128, 64), Load(8, 128, 64)),
    quantised=Decode((_06B,), (1,), 32, 2, 12),
    ways=("int8",),
    peers=Decode((_06B,), (1,), 32, 2, 12),
    goals={(_06B, "int8"): 1.7},
)
