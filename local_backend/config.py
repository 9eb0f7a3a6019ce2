"""What a model folder says about its model. Torch-free."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPPORTED = ("LlamaForCausalLM", "MistralForCausalLM")
BUNDLED = Path(__file__).parent / "bundled"


class UnusableModel(Exception):
    """A folder that cannot be served; the message says what is missing or not supported."""


@dataclass(slots=True, frozen=True)
class ModelConfig:
    """Sizes in elements, as Hugging Face's `config.json` names them."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float
    rope_theta: float
    tied: bool
    eos: tuple[int, ...]
    bos: int | None
    temperature: float  # where a call says none

    @classmethod
    def load(cls, folder: Path) -> "ModelConfig":
        """Raises UnusableModel."""
        raw = _read_json(folder / "config.json")
        names = raw.get("architectures") or ["none"]
        if names[0] not in SUPPORTED:
            raise UnusableModel(
                f"{folder}: the architecture {names[0]} is not supported; {', '.join(SUPPORTED)} are"
            )
        scaling = raw.get("rope_scaling")
        if scaling and scaling.get("rope_type", scaling.get("type")) not in (None, "default"):
            raise UnusableModel(f"{folder}: scaled rotary positions are not supported yet")
        if raw.get("attention_bias") or raw.get("mlp_bias") or raw.get("sliding_window"):
            raise UnusableModel(f"{folder}: biases and sliding windows are not supported yet")
        path = folder / "generation_config.json"
        generation = _read_json(path) if path.exists() else {}
        eos = generation.get("eos_token_id", raw.get("eos_token_id"))
        heads = raw["num_attention_heads"]
        return cls(
            vocab_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            layers=raw["num_hidden_layers"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads") or heads,
            head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
            max_positions=raw["max_position_embeddings"],
            rms_eps=raw["rms_norm_eps"],
            rope_theta=float(
                raw.get("rope_theta") or (raw.get("rope_parameters") or {}).get("rope_theta", 10000.0)
            ),
            tied=bool(raw.get("tie_word_embeddings")),
            eos=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
            bos=raw.get("bos_token_id"),
            temperature=float(generation.get("temperature", 1.0)),
        )


def folder_of(model: str) -> Path:
    """`bundled`, or a folder. Raises UnusableModel."""
    folder = BUNDLED if model == "bundled" else Path(model)
    if not (folder / "config.json").exists():
        raise UnusableModel(
            f"{model}: there is no model folder (with config.json, *.safetensors, tokenizer.json) of that name"
        )
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnusableModel(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UnusableModel(f"{path}: is no JSON object")
    return found
