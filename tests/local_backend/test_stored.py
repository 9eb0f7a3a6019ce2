"""What a config.json says of its weights is understood, or refused with what would be."""

from typing import Any

import pytest

from local_backend.stored import Stored, stored_of

FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
TOKENS = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": True, "strategy": "token"}


def compressed(weights: dict[str, Any], taken: dict[str, Any] | None = TOKENS, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {**FLOAT8, **weights}, "input_activations": taken}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
        "config_groups": {"group_0": group}, **more,
    }  # fmt: skip


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "GEMM"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}, Stored("fp8")),
        ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, Stored("fp8", False, (128, 128))),
        (compressed({"strategy": "channel"}), Stored("fp8")),
        (compressed({"strategy": "tensor"}, {**TOKENS, "dynamic": False}), Stored("fp8")),
        (compressed({"strategy": "channel"}, None), Stored("fp8", False)),
        (compressed({"strategy": "block", "block_structure": [128, 64]}), Stored("fp8", False, (128, 64))),
        (GPTQ, Stored("gptq", group=128, less_one=True)),
        ({**GPTQ, "group_size": -1, "dynamic": {"-:.*down.*": {}}}, Stored("gptq", less_one=True)),
        ({**GPTQ, "checkpoint_format": "gptq_v2"}, Stored("gptq", group=128)),
        (AWQ, Stored("awq", group=64)),
        ({}, None),
        (None, None),
    ],
)  # fmt: skip
def test_published_formats_are_understood(config: Any, expected: Stored | None) -> None:
    assert stored_of({"quantization_config": config}) == expected


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"quant_method": "bitsandbytes"}, "by bitsandbytes are"),
        ({"bits": 4}, "by an unknown method"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "by fp8 with fmt e5m2"),
        (compressed({"strategy": "channel"}, format="pack-quantized"), "with format pack-quantized"),
        (compressed({"strategy": "channel"}, sparsity_config={"format": "dense"}), "with a sparsity_config"),
        (compressed({"strategy": "channel", "num_bits": 4}), "with num_bits 4"),
        (compressed({"strategy": "group"}), "with strategy group"),
        (compressed({"strategy": "channel"}, {**TOKENS, "type": "int"}), "with type int"),
        ({**GPTQ, "bits": 8}, "by gptq with bits 8"),
        ({**GPTQ, "is_marlin_format": True}, "in marlin's format"),
        ({**GPTQ, "dynamic": {"+:.*down.*": {"bits": 8}}}, "differ by module"),
        ({**AWQ, "version": "gemv"}, "by awq with version gemv"),
        ({**AWQ, "zero_point": False}, "by awq with zero_point False"),
    ],
)
def test_others_are_refused_with_what_is_supported(config: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r"are not supported; fp8 .* gptq and awq of 4 bits are") as refused:
        stored_of({"quantization_config": config})
    assert told in str(refused.value)


def test_groups_that_differ_are_refused() -> None:
    config = compressed({"strategy": "channel"})
    other = compressed({"strategy": "block", "block_structure": [128, 128]})["config_groups"]["group_0"]
    config["config_groups"]["group_1"] = other
    with pytest.raises(ValueError, match="in groups of several kinds"):
        stored_of({"quantization_config": config})
    config = compressed({"strategy": "channel"})
    config["config_groups"]["group_0"]["output_activations"] = TOKENS
    with pytest.raises(ValueError, match="with output_activations"):
        stored_of({"quantization_config": config})
