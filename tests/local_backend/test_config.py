"""What a model's folder says is refused by its file and member where it cannot be meant, before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from local_backend.config import ModelConfig, UnusableModel
from local_backend.encoder_config import EncoderConfig, is_encoder

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128, "eos_token_id": 2,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0] * 4}


def refused(folder: Path, config: Any, generation: Any = None) -> str:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    with pytest.raises(UnusableModel) as error:
        ModelConfig.load(folder)
    return str(error.value)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"architectures": 7}, "architectures"),
        ({"architectures": [7]}, "architectures"),
        ({"vocab_size": "512"}, "vocab_size must be a whole number"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"hidden_size": 32.0}, "hidden_size"),
        ({"intermediate_size": -1}, "intermediate_size"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers"),
        ({"num_attention_heads": True}, "num_attention_heads"),
        ({"num_attention_heads": 64}, "head_dim"),
        ({"num_key_value_heads": 0}, "num_key_value_heads"),
        ({"head_dim": 7}, "pairs"),
        ({"max_position_embeddings": 10**10}, "max_position_embeddings"),
        ({"rms_norm_eps": "small"}, "small"),
        ({"rope_theta": 1.0}, "rope_theta"),
        ({"rope_theta": "nan"}, "rope_theta"),
        ({"rope_scaling": YARN, "rope_theta": 1.0}, "rope_theta"),
        ({"rope_scaling": {**YARN, "factor": 1e9}}, "max_position_embeddings"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "rotary positions"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2}}, "rotary positions"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}}, "rotary positions"),
        ({"rope_scaling": {**LONG, "long_factor": [1.0], "short_factor": [1.0]}}, "1 factors are told for 4"),
        ({"partial_rotary_factor": 0.4}, "pairs"),
        ({"architectures": ["Phi3ForCausalLM"], "sliding_window": "big"}, "sliding_window"),
        ({"architectures": ["Gemma2ForCausalLM"], "head_dim": 8, "layer_types": ["full_attention"]}, "layer_types"),
        ({"quantization_config": "fp8"}, "quantization_config"),
        ({"quantization_config": [1]}, "quantization_config"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}}, "two sizes"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": [1]}}, "config.json"),
        ({"eos_token_id": [1, 96]}, "eos_token_id names 96"),
        ({"eos_token_id": -1}, "eos_token_id names -1"),
        ({"eos_token_id": "2"}, "eos_token_id names '2'"),
    ],
)  # fmt: skip
def test_what_config_json_cannot_mean_is_refused(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    reason = refused(tmp_path, {**LLAMA, **changed})
    assert reason.startswith(f"{tmp_path}/config.json: ")
    assert told in reason


@pytest.mark.parametrize(
    ("generation", "told"),
    [
        ({"eos_token_id": [1, 99999]}, "eos_token_id names 99999"),
        ({"eos_token_id": "2"}, "eos_token_id"),
        ({"temperature": None}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_generation_config_json_cannot_mean_is_refused_by_its_own_name(
    generation: dict[str, Any], told: str, tmp_path: Path
) -> None:
    reason = refused(tmp_path, LLAMA, generation)
    assert reason.startswith(f"{tmp_path}/generation_config.json: ")
    assert told in reason


def test_what_generation_config_json_says_goes_before(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "eos_token_id": 4096}))
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [1, 95], "temperature": 0.5})
    )
    found = ModelConfig.load(tmp_path)
    assert (found.eos, found.temperature) == ((1, 95), 0.5)


@pytest.mark.parametrize("text", ["{", "[]", '{"a":' + "[" * 10**5])
def test_a_file_that_is_none_of_json_is_named(text: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text).startswith(f"{tmp_path}/config.json: ")


@pytest.mark.parametrize(
    "changed", [{"architectures": 7}, {"vocab_size": "x"}, {"num_attention_heads": 5}, {"hidden_act": []}]
)
def test_encoders_are_held_to_the_same(changed: dict[str, Any], tmp_path: Path) -> None:
    bert = {**LLAMA, "architectures": ["BertModel"], "hidden_act": "gelu", **changed}
    (tmp_path / "config.json").write_text(json.dumps(bert))
    (tmp_path / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}])
    )
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    with pytest.raises(UnusableModel, match=r"config\.json"):
        if is_encoder(tmp_path):
            EncoderConfig.load(tmp_path)
