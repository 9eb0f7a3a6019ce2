"""Checkpoints of fewer bits hold, to the number, what independent packing put into them, and models compute it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip("transformers", reason="transformers is not installed: make .make/dev")

from safetensors.torch import load_file, save_file  # noqa: E402

from local_backend.checkpoint import dense, joined, read_matrix  # noqa: E402
from local_backend.config import UnusableModel  # noqa: E402
from local_backend.fp8 import Fp8  # noqa: E402
from local_backend.int4 import Int4  # noqa: E402
from local_backend.layers import Dense, Int8  # noqa: E402
from local_backend.loader import load  # noqa: E402
from local_backend.stored import Stored  # noqa: E402
from local_backend.weights import Weights  # noqa: E402
from tests.local_backend import packing  # noqa: E402
from tests.local_backend.packing import Made, draw  # noqa: E402
from tests.local_backend.test_families import write  # noqa: E402
from tests.local_backend.test_share import dealt, logits  # noqa: E402

WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


def int4(pack: Callable[..., Any], matrix: Any, group: int = 32, how: Any = None, **made: bool) -> Made:
    drawn = draw(matrix, group, **made)
    return pack(drawn, **(how or {})), drawn.meant()


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
FORMATS: dict[str, tuple[dict[str, Any], Callable[[Any], Made]]] = {
    "gptq": (GPTQ, partial(int4, packing.gptq)),
    "gptq, symmetric, without g_idx": (
        GPTQ, partial(int4, packing.gptq, how={"with_g_idx": False}, symmetric=True)
    ),
    "gptq, by activations": ({**GPTQ, "desc_act": True}, partial(int4, packing.gptq, shuffled=True)),
    "gptq, version 2": ({**GPTQ, "checkpoint_format": "gptq_v2"}, partial(int4, packing.gptq, how={"v2": True})),
    "gptq, one group": ({**GPTQ, "group_size": -1}, partial(int4, packing.gptq, group=0)),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}, partial(int4, packing.awq)),
    "fp8 by rows": (
        {
            "quant_method": "compressed-tensors", "format": "float-quantized",
            "config_groups": {"group_0": {
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
            }},
        },
        packing.fp8_by_rows,
    ),
    "fp8 as a whole": ({**FP8, "activation_scheme": "static"}, packing.fp8_whole),
    "fp8 by blocks": ({**FP8, "weight_block_size": [32, 32]}, packing.fp8_by_blocks),
}  # fmt: skip
KEPT = {name: Int4 if "fp8" not in name else Dense if "blocks" in name else Fp8 for name in FORMATS}
ERROR = {Int4: 1e-5, Dense: 1e-5, Fp8: 0.15}  # Fp8 rounds activations, eight times one after the other


def error(found: Any, expected: Any) -> float:
    return float((found - expected).norm() / expected.norm())


def make(folder: Path, name: str, family: str = "Llama") -> tuple[Path, Path]:
    """A model packed, and one of the numbers that it stands for."""
    (folder / "made").mkdir()
    write(folder / "made", family, WIDE)
    packing.rewrite(folder / "made", folder / "packed", folder / "plain", *FORMATS[name])
    return folder / "packed", folder / "plain"


@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_model_computes_what_its_numbers_say(name: str, tmp_path: Path) -> None:
    packed, plain = make(tmp_path, name)
    expected, model = logits(plain), load(packed, "float32")
    kinds = {type(model.layers[1].get_submodule(at)) for at in ("attention.qkv", "attention.out", "mlp.down")}
    assert kinds == {KEPT[name]}
    assert error(logits(packed), expected) < ERROR[KEPT[name]]
    if KEPT[name] is Fp8:
        kept, meant = (one.get_submodule("layers.0.mlp.gate_up") for one in (model, load(plain, "float32")))
        assert isinstance(kept, Fp8)
        assert torch.equal(kept.weight.float() * kept.scale[:, None], meant.weight)


@pytest.mark.parametrize("name", FORMATS)
def test_its_shares_add_up_to_the_whole(name: str, tmp_path: Path) -> None:
    packed, plain = make(tmp_path, name)
    for found in dealt(packed, 2):
        assert error(found, logits(plain)) < ERROR[KEPT[name]]


@pytest.mark.parametrize(("quantize", "kind"), [("int8", Int8), ("fp8", Fp8)])
@pytest.mark.parametrize("name", ["gptq", "fp8 by rows", "fp8 by blocks"])
def test_quantize_holds_for_packed_models_too(quantize: str, kind: type, name: str, tmp_path: Path) -> None:
    packed, plain = make(tmp_path, name)
    model = load(packed, "float32", quantize)
    assert isinstance(model.get_submodule("layers.0.attention.out"), kind)
    assert isinstance(model.head, kind)
    found, expected = (logits(one, quantize=quantize) for one in (packed, plain))
    assert error(found, expected) < 1e-3


def test_fused_modules_are_read_as_well(tmp_path: Path) -> None:
    packed, plain = make(tmp_path, "fp8 by rows", "Phi3")
    for found in (logits(packed), *dealt(packed, 2)):
        assert error(found, logits(plain)) < ERROR[Fp8]


def test_a_layer_that_was_left_alone_stays_so_beside_packed_ones(tmp_path: Path) -> None:
    packed, plain = make(tmp_path, "gptq")
    tensors, name = load_file(packed / "model.safetensors"), "model.layers.0.self_attn.k_proj."
    alone = {one: tensor for one, tensor in tensors.items() if not one.startswith(name)}
    meant = load_file(plain / "model.safetensors")[f"{name}weight"]
    save_file({**alone, f"{name}weight": meant}, packed / "model.safetensors")
    assert isinstance(load(packed).get_submodule("layers.0.attention.qkv"), Dense)
    assert isinstance(load(packed).get_submodule("layers.1.attention.qkv"), Int4)
    assert error(logits(packed), logits(plain)) < ERROR[Int4]


@pytest.mark.parametrize(
    "cut", [(slice(0, 48), slice(0, 64)), (slice(5, 29), slice(3, 50)), (slice(47, 48), slice(31, 64))]
)
@pytest.mark.parametrize("name", [name for name in FORMATS if "whole" not in name])
def test_any_part_of_a_matrix_is_that_part_of_its_numbers(
    name: str, cut: tuple[slice, slice], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    tensors, meant = FORMATS[name][1](torch.randn(48, 64))
    save_file({f"m.{end}": one.contiguous() for end, one in tensors.items()}, tmp_path / "model.safetensors")
    stored = Stored(
        "fp8" if "fp8" in name else "awq" if name == "awq" else "gptq",
        block=(32, 32) if "blocks" in name else None, group=0 if "one group" in name else 32,
        less_one="gptq" in name and "version 2" not in name,
    )  # fmt: skip
    with Weights(tmp_path) as weights:
        found = read_matrix(weights, stored, "m", (48, 64), cut)
        assert torch.equal(dense(found), meant[cut])
        assert torch.equal(dense(joined([found, found])), torch.cat([meant[cut]] * 2))


@pytest.mark.parametrize(
    ("name", "end", "changed", "told"),
    [
        ("fp8 by rows", "weight_scale", lambda one: one[:5], r"weight_scale has the shape \(5, 1\)"),
        ("fp8 by rows", "weight_scale", None, "lack .*weight_scale"),
        ("fp8 by blocks", "weight_scale_inv", lambda one: one[:, :1].contiguous(), r"_inv has the shape \(2, 1\)"),
        ("gptq", "qzeros", lambda one: one[:, :3].contiguous(), r"qzeros has the shape \(2, 3\)"),
        ("gptq", "g_idx", lambda one: one + 1, "g_idx tells of groups that there are not"),
        ("awq", "scales", None, "lack .*scales"),
        ("awq", "qweight", lambda one: one.long(), r"qweight is of the type torch\.int64"),
        ("gptq", "scales", lambda one: one.int(), r"scales is of the type torch\.int32"),
        ("fp8 by rows", "weight", lambda one: one.to(torch.int8), r"weight is of the type torch\.int8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(name: str, end: str, changed: Any, told: str, tmp_path: Path) -> None:
    packed, _ = make(tmp_path, name)
    tensors, place = load_file(packed / "model.safetensors"), f"model.layers.1.self_attn.o_proj.{end}"
    tensor = tensors.pop(place)
    save_file({**tensors, place: changed(tensor)} if changed else tensors, packed / "model.safetensors")
    with pytest.raises(UnusableModel, match=told):
        load(packed)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["self_attn.q_proj", "input_layernorm"])
def test_numbers_that_config_json_says_nothing_of_are_named(name: str, kind: Any, tmp_path: Path) -> None:
    _, plain = make(tmp_path, "gptq")
    file, place = plain / "model.safetensors", f"model.layers.1.{name}.weight"
    tensors = load_file(file)
    save_file({**tensors, place: tensors[place].to(kind)}, file)
    with pytest.raises(UnusableModel, match=rf"{name}\.weight is of the type {kind}"):
        load(plain)
