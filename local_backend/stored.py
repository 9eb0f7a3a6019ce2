"""How a published checkpoint keeps its matrices, by the `quantization_config` of its config.json. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_SUPPORTED = (
    "fp8 (e4m3; of quant_method fp8, or compressed-tensors in the format float-quantized) and gptq and awq of 4 bits"
    " are; else take the model they were made of"
)


@dataclass(slots=True, frozen=True)
class Stored:
    """Matrices of fewer bits, with scales beside them. `kept`: as they are, unless --quantize says otherwise; what is
    not kept is widened while it is loaded."""

    kind: Literal["fp8", "gptq", "awq"]
    kept: bool = True
    block: tuple[int, int] | None = (
        None  # outputs and inputs that share a scale; None: it is an output's, or the matrix's
    )
    group: int = 0  # inputs of one output that share a scale; 0: all
    less_one: bool = False  # zeros are written down less one


def stored_of(raw: Mapping[str, Any]) -> Stored | None:
    """None where config.json says nothing of it. Raises ValueError for what is not supported."""
    config = raw.get("quantization_config")
    if not config:
        return None
    if not isinstance(config, Mapping):
        raise ValueError("quantization_config must be an object")
    match config.get("quant_method"):
        case "fp8":
            return _fp8(config)
        case "compressed-tensors":
            return _compressed(config)
        case "gptq":
            return _gptq(config)
        case "awq":
            return _awq(config)
        case method:
            raise _unsupported(f"by {method or 'an unknown method'}")


def _fp8(config: Mapping[str, Any]) -> Stored:
    """AutoFP8's, whose activations' scales may be fixed, and DeepSeek's and Qwen's, of blocks."""
    _want(config, "fp8", fmt=("e4m3",), activation_scheme=("static", "dynamic"))
    block = config.get("weight_block_size")
    return Stored("fp8", block is None, _block(block))


def _compressed(config: Mapping[str, Any]) -> Stored:
    """A scheme of vLLM's llm-compressor, of which several groups may differ in the modules they are for."""
    _want(config, "compressed-tensors", format=("float-quantized", "naive-quantized"))
    for name in ("sparsity_config", "transform_config"):
        if config.get(name):
            raise _unsupported(f"by compressed-tensors with a {name}")
    found = {_group(group) for group in config["config_groups"].values()}
    if len(found) != 1:
        raise _unsupported("by compressed-tensors in groups of several kinds")
    return found.pop()


def _group(group: Mapping[str, Any]) -> Stored:
    weights = group["weights"]
    _want(weights, "compressed-tensors", type=("float",), num_bits=(8,), symmetric=(True,), dynamic=(False,),
          strategy=("tensor", "channel", "block"))  # fmt: skip
    if group.get("output_activations"):
        raise _unsupported("by compressed-tensors with output_activations")
    taken = group.get("input_activations")
    if taken:
        _want(taken, "compressed-tensors", type=("float",), num_bits=(8,))
    block = _block(weights.get("block_structure")) if weights["strategy"] == "block" else None
    return Stored("fp8", bool(taken) and block is None, block)


def _gptq(config: Mapping[str, Any]) -> Stored:
    """AutoGPTQ's and GPTQModel's; whether columns were taken by their activations, their g_idx says."""
    _want(config, "gptq", bits=(4,), checkpoint_format=("gptq", "gptq_v2"), pack_dtype=("int32",))
    if config.get("is_marlin_format") or any(
        not name.startswith("-:") for name in config.get("dynamic") or ()
    ):
        raise _unsupported("by gptq in marlin's format, or in ways that differ by module")
    less_one = config.get("checkpoint_format", "gptq") == "gptq"
    return Stored("gptq", group=_size(config), less_one=less_one)


def _awq(config: Mapping[str, Any]) -> Stored:
    version = str(config.get("version", "gemm")).lower()
    _want({**config, "version": version}, "awq", bits=(4,), zero_point=(True,), version=("gemm",))
    return Stored("awq", group=_size(config))


def _want(config: Mapping[str, Any], method: str, **known: tuple[Any, ...]) -> None:
    """What is said of these must be known; what is left out is the first of each. Raises ValueError."""
    for name, values in known.items():
        said = config.get(name)
        if said is not None and said not in values:
            raise _unsupported(f"by {method} with {name} {said}")


def _block(block: Any) -> tuple[int, int] | None:
    match block:
        case None:
            return None
        case [int(deep), int(wide)] if deep > 0 and wide > 0:
            return deep, wide
    raise ValueError(f"blocks of weights must have two sizes from 1 on, not {block!r:.40}")


def _size(config: Mapping[str, Any]) -> int:
    return max(0, int(config["group_size"]))


def _unsupported(how: str) -> ValueError:
    return ValueError(f"weights quantised {how} are not supported; {_SUPPORTED}")
