"""Models of real shapes with weights made at random on the device, for the engine and for transformers alike."""

import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loadtests.engine.bench import Absent
from local_backend.checkpoint import Grouped
from local_backend.config import ModelConfig
from local_backend.int4 import layer_of
from local_backend.layers import Dense
from local_backend.loader import build
from local_backend.model import Decoder

GROUP = 128  # inputs that share a scale where weights have 4 bits

_QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
# config.json as Hugging Face writes it; sources are the models' own cards.
SHAPES: dict[str, dict[str, Any]] = {
    "Qwen3-0.6B": {
        **_QWEN3, "vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 40_960,
        "tie_word_embeddings": True,
    },
    "Llama-3.1-8B": {
        **_LLAMA, "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131_072,
        "rope_theta": 500_000,
    },
    "small, long context": {  # 16 M parameters
        **_QWEN3, "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 6,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
    "tiny, long context": {  # what costs time is the engine, not the model
        **_LLAMA, "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096, "rope_theta": 10_000,
        "tie_word_embeddings": True,
    },
    "tiny": {
        **_QWEN3, "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
    },
}  # fmt: skip


class Random:
    """Tensors drawn by their names, the same whoever reads them: N(0, 0.02²), norms 1 as at a training's start."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype

    def __contains__(self, name: str) -> bool:
        return False  # nothing is stored fused

    def read(self, name: str, shape: tuple[int, ...], cut: tuple[slice, ...] | None = None) -> Tensor:
        if len(shape) == 1:
            return torch.ones(shape, device=self._device, dtype=self._dtype)[cut or ...]
        dice = torch.Generator(self._device).manual_seed(zlib.crc32(name.encode()))
        empty = torch.empty(shape, device=self._device, dtype=self._dtype)
        return empty.normal_(0, 0.02, generator=dice)[cut or ...]


def ours(shape: str, device: torch.device, dtype: torch.dtype, quantize: str = "none") -> Decoder:
    """Raises Absent for weights of a kind that is not built."""
    if quantize not in ("none", "int8", "fp8", "int4"):
        raise Absent(f"weights in {quantize} are not built yet")
    model = build(config_of(shape), Random(device, dtype), dtype, "none" if quantize == "int4" else quantize)
    return in_groups(model, dtype) if quantize == "int4" else model


def in_groups(model: Decoder, dtype: torch.dtype) -> Decoder:
    """The layers' matrices in 4 bits, as a checkpoint of GPTQ's or AWQ's gives them; head and table as they were."""
    for name, module in [*model.layers.named_modules(prefix="layers")]:
        if isinstance(module, Dense):
            made = layer_of(rounded(module.weight), module.bias, dtype)
            assert made is not None
            model.set_submodule(name, made)
    return model


def rounded(weight: Tensor) -> Grouped:
    """Each number the nearest of sixteen."""
    groups = weight.float().view(len(weight), -1, GROUP)
    low, high = groups.aminmax(dim=2)
    scale = ((high - low) / 15).clamp_min(1e-30)
    zero = (-low / scale).round()
    numbers = (groups / scale[:, :, None] + zero[:, :, None]).round().clamp(0, 15).to(torch.uint8)
    places = torch.arange(weight.shape[1], device=weight.device)
    return Grouped(numbers.flatten(1), scale, zero, places // GROUP)


def config_of(shape: str) -> ModelConfig:
    with tempfile.TemporaryDirectory() as folder:
        return ModelConfig.load(write(shape, Path(folder)))


def theirs(shape: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The same model of transformers."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        config = transformers.AutoConfig.from_pretrained(write(shape, Path(folder)))
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    source = Random(device, dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(source.read(name, tuple(weight.shape)))
    return model.requires_grad_(False)


def write(shape: str, folder: Path) -> Path:
    """The folder, with the shape's config.json in it."""
    (folder / "config.json").write_text(json.dumps(SHAPES[shape]))
    return folder
