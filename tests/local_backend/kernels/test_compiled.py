"""Every kernel compiles for a real GPU, down to its machine code: that takes none, only a process without the
interpreter."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

FP32, HALF, FP8, INT, LONG = "*fp32", "*bf16", "*fp8e4nv", "*i32", "*i64"
EVEN = {"inputs", "outputs", "columns", "size", "x_row", "more_row", "out_row"}
SHARED = 101_376  # bytes of one multiprocessor that a program may have on the smaller cards of compute capability 8.6


def kept(scaled: bool) -> dict[str, str]:
    """Keys and values, and what they are scaled by."""
    cached = dict.fromkeys(("keys", "values"), FP8 if scaled else HALF)
    return cached | dict.fromkeys(("key_scales", "value_scales"), FP32 if scaled else HALF)


def compile_all() -> None:
    """In a process of its own. Raises where a kernel does not compile or asks for more shared memory than there is."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from local_backend.kernels import fp8, fused, product

    def compile(
        kernel: Any, pointers: dict[str, str], sizes: dict[str, Any], warps: int = 4, stages: int = 2
    ) -> None:
        floats = {"scale", "softcap", "eps"}
        if "EARLY" in kernel.arg_names:
            sizes = {**sizes, "EARLY": True}
        signature = {
            name: "constexpr" if name in sizes else pointers.get(name, "fp32" if name in floats else "i32")
            for name in kernel.arg_names
        }
        # What a launch finds out of its arguments: these are multiples of 16, so that reads may be under way.
        even = {
            (at,): [["tt.divisibility", 16]]
            for at, (name, kind) in enumerate(signature.items())
            if kind.startswith("*") or name in EVEN
        }
        made = triton.compile(
            ASTSource(kernel, signature, sizes, even),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": warps, "num_stages": stages},
        )
        assert made.asm["cubin"]
        assert made.metadata.shared <= SHARED, f"{kernel}: {made.metadata.shared}"

    compile_attention(compile)
    compile_few(compile)

    compile(
        fused._norm, {"x": FP32, "more": HALF, "weight": FP32, "out": HALF}, {"MORE": True, "ACROSS": 4096}, 8
    )
    compile(fused._gated, {"rows": HALF, "out": HALF}, {"GELU": True, "ACROSS": 1024})
    tensors = {
        "rows": HALF,
        "q": HALF,
        "q_norm": FP32,
        "k_norm": FP32,
        "cos": FP32,
        "sin": FP32,
        "slots": LONG,
    }
    sizes = {"QUERIES": 32, "KV": 8, "SIZE": 80, "DIMS": 128, "TURNED": 40, "NORMED": True, "HEADS": 8}
    for scaled in (False, True):
        compile(fused._turn, {**tensors, **kept(scaled)}, {**sizes, "SCALED": scaled})

    compile(fp8._by_rows, {"x": HALF, "out": FP8, "scale": FP32}, {"ACROSS": 1024})
    tensors = {"x": FP8, "step": FP32, "weight": FP8, "scale": FP32, "bias": FP32, "out": HALF}
    sizes = {"BIASED": True, "ACROSS": fp8.ACROSS, "DEEP": fp8.DEEP}
    for lines, outputs in itertools.product((16, 32), (4096, 28672)):
        stages = fp8.stages_for(lines, outputs, SHARED)
        compile(fp8._product, tensors, {**sizes, "LINES": lines}, fp8.WARPS, stages)

    tensors = {"x": HALF, "weight": HALF, "bias": HALF, "out": HALF}
    for outputs in (4096, 28672):
        cut = product.cut_for(outputs, 2, SHARED)
        sizes = {
            "BIASED": True,
            "LINES": product.LINES,
            "ACROSS": cut.across,
            "DEEP": cut.deep,
            "WIDE": False,
        }
        compile(product._product, tensors, sizes, cut.warps, cut.stages)

    compile_int4(compile)
    compile_samplers(compile)


def compile_attention(compile: Any) -> None:
    import triton
    from triton import language

    from local_backend.kernels import attention
    from local_backend.paged import tiles_for

    rows = {"tables": INT, "starts": INT, "lengths": INT, "items": INT, "owners": INT}
    parts = {"parts": FP32, "marks": FP32, "out": HALF}
    for size, group, window, count in (
        (128, 4, 0, 1),
        (128, 4, 0, 256),
        (80, 7, 4096, 0),
        (256, 2, 1024, 32),
    ):
        split = count > 0
        tiles = tiles_for(group, size, split, count)
        shape = {"SIZE": size, "DIMS": triton.next_power_of_2(size), "SPLIT": tiles.split, "WINDOW": window}
        more = {
            "KV": 8,
            "GROUP": group,
            "BLOCK": 32,
            "LINES": tiles.lines,
            "KEYS": tiles.keys,
            "JOINED": split,
        }
        product = language.bfloat16 if size == 80 else language.float16
        flags = {"CAPPED": size == 256, "SCALED": size != 80, "SINGLE": split, "PRODUCT": product}
        tensors = {"q": HALF, **kept(size != 80), **rows, **parts}
        compile(attention._mix, tensors, {**shape, **more, **flags}, tiles.warps, tiles.stages)
    shape = {"SIZE": 80, "DIMS": 128, "SPLIT": 256, "WINDOW": 0, "JOINED": 16, "SINGLE": False}
    compile(attention._join, {**rows, **parts}, shape)


def compile_few(compile: Any) -> None:
    from local_backend.kernels import few

    for lines, outputs in itertools.product((16, 32), (1024, 4096, 6144, 28672)):
        cut = few.cut_for(lines, outputs, SHARED)
        sizes = {"BIASED": True, "LINES": lines, "ACROSS": cut.across, "DEEP": cut.deep, "WIDE": False}
        compile(
            few._product, {"x": HALF, "weight": HALF, "bias": HALF, "out": HALF}, sizes, cut.warps, cut.stages
        )
    for gate, scaled in ((few.Gate.NONE, False), (few.Gate.SILU, True), (few.Gate.GELU, False)):
        cut = few.cut_for_one(4096, gate > 0, scaled)
        sizes = {"GATE": int(gate), "BIASED": True, "SCALED": scaled, "ACROSS": cut.across, "DEEP": cut.deep}
        tensors = {"x": HALF, "weight": FP8 if scaled else HALF, "scale": FP32, "bias": FP32, "out": HALF}
        compile(few._single, tensors, sizes, cut.warps)


def compile_int4(compile: Any) -> None:
    from local_backend.kernels import int4

    kept = {"words": "*i16", **dict.fromkeys(("scale", "zero", "bias"), FP32), "x": HALF, "out": HALF}
    sizes = {"UNIT": 128, "STRIPE": int4.stripe_of(128)}
    for lines in (int4.FEW, int4.MANY):
        more = {"BIASED": True, "ACROSS": 64, "LINES": lines, "BASE": 128, "WIDE": False}
        compile(int4._product, kept, {**sizes, **more}, stages=3)
    compile(int4._join, {**kept, "parts": FP32}, {"SPLITS": 4, "BIASED": True})
    compile(int4._single, kept, {**sizes, "BIASED": True, "ACROSS": 8, "BLOCKS": 4}, 2)
    compile(int4._widen, kept, {**sizes, "ACROSS": 16})


def compile_samplers(compile: Any) -> None:
    from local_backend.kernels import sampling

    asked = {"logits": FP32, "least": FP32, "temperature": FP32, "keys": LONG, "values": FP32, "ids": LONG}
    compile(sampling._best, asked, {"CHUNK": 4096}, 8)
    compile(sampling._pick, {**asked, "drawn": LONG}, {"CHUNKS": 32}, 1)
    compile(sampling._thresholds, {**asked, "top_k": INT, "top_p": FP32, "min_p": FP32}, {"CHUNK": 4096}, 8)


def test_kernels_compile_for_the_h100_and_h200(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import compile_all; compile_all()"],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
