"""Every family computes what `transformers` computes, from folders that it has written."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: make .make/dev")

from local_backend.config import ModelConfig, UnusableModel  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.loader import load  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.types import Delta, Job, Sampling  # noqa: E402

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32, "rope_theta": 5e5,
}  # fmt: skip
LONG = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 1.5, 2.0, 4.0], "rope_theta": 1e4,
    "original_max_position_embeddings": 32,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 2": ("Llama", {"num_key_value_heads": 4}),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    "mistral, window": ("Mistral", {"sliding_window": 9}),
    "qwen 2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen 2, windowed above": (
        "Qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}
    ),
    "qwen 3": ("Qwen3", {"head_dim": 16}),
    "qwen 3, yarn": ("Qwen3", {"head_dim": 16, "rope_parameters": YARN}),
    "gemma 2": (
        "Gemma2",
        {"head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0,
         "final_logit_softcapping": 3.0},
    ),
    "gemma 3": (
        "Gemma3",
        {"head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 24, "num_hidden_layers": 7},
    ),
    "phi 3": ("Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    "phi 3, window": ("Phi3", {"sliding_window": 9}),
    "phi 3, partly rotated": (
        "Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
    ),
    "phi 3, longrope": (
        "Phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 32}
    ),
    "granite": (
        "Granite",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2,
         "logits_scaling": 4.0},
    ),
    "olmo 2": ("Olmo2", {}),
    "smollm 3": ("SmolLM3", {}),
    "smollm 3, window": ("SmolLM3", {"use_sliding_window": True, "sliding_window": 9}),
}  # fmt: skip
PROMPT = [(7 * place + place * place // 3) % 96 for place in range(45)]


def write(folder: Path, family: str, asked: dict[str, Any], **saving: Any) -> Any:
    """A random model of the family as transformers saves it; norms and biases are random as well."""
    name = "Gemma3Text" if family == "Gemma3" else family
    torch.manual_seed(7)
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **asked})
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            # norms and biases are ones or zeros at first, and would prove nothing
            weight.add_(torch.randn_like(weight) * (0.15 if weight.dim() > 1 else 0.3))
    model.save_pretrained(folder, **saving)
    return model


def logits(folder: Path, **how: Any) -> Any:
    """Natural logarithms of probabilities, through the engine, of the token after every prefix of the prompt."""
    model = load(folder, "float32")
    engine = Engine(model, EngineConfig(step_tokens=20, **how))
    wanted = [30, 44, 45]
    out: dict[int, Delta] = {}
    for length in wanted:
        job = Job(PROMPT[:length], Sampling(temperature=0, max_tokens=1, ignore_eos=True, logprobs=96))
        engine.add(job, lambda _, delta, length=length: out.__setitem__(length, delta))  # type: ignore[misc]
    while engine.has_work:
        engine.step()
    rows = torch.empty(len(wanted), 96)
    for row, length in enumerate(wanted):
        for token, value in out[length].logprobs[0].likeliest:
            rows[row, token] = value
    return rows


@pytest.mark.parametrize("name", CASES)
def test_a_family_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    family, asked = CASES[name]
    theirs = write(tmp_path, family, asked)
    with torch.no_grad():
        # whole: a rotary scaling may depend on the length at hand
        expected = theirs(torch.tensor([PROMPT])).logits[0, [29, 43, 44]].log_softmax(-1)
    torch.testing.assert_close(logits(tmp_path), expected, atol=1e-4, rtol=1e-4)


def test_several_files_are_one_model(tmp_path: Path) -> None:
    theirs = write(tmp_path, "Qwen3", {"head_dim": 16}, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    with torch.no_grad():
        expected = theirs(torch.tensor([PROMPT])).logits[0, [29, 43, 44]].log_softmax(-1)
    torch.testing.assert_close(logits(tmp_path), expected, atol=1e-4, rtol=1e-4)
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(UnusableModel, match="model-00002"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_the_bits_are_nearly_the_same(dtype: str, tmp_path: Path) -> None:
    write(tmp_path, "Llama", {})
    assert load(tmp_path).embed.weight.dtype == torch.float32, "small models are computed in fp32"
    model = load(tmp_path, dtype)
    engine = Engine(model, EngineConfig())
    out: list[Delta] = []
    job = Job(PROMPT, Sampling(temperature=0, max_tokens=1, ignore_eos=True, logprobs=96))
    engine.add(job, lambda _, delta: out.append(delta))
    engine.step()
    found = dict(out[0].logprobs[0].likeliest)
    expected = logits(tmp_path)[2]
    assert max(abs(found[token] - float(expected[token])) for token in range(96)) < 0.15


def test_a_surplus_or_missing_tensor_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write(tmp_path, "Llama", {})
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "model.layers.0.self_attn.sinks": torch.zeros(4)}, file)
    with pytest.raises(UnusableModel, match=r"self_attn\.sinks"):
        load(tmp_path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file)
    with pytest.raises(UnusableModel, match=r"layers\.1\.mlp\.up_proj"):
        load(tmp_path)
    file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(UnusableModel, match=r"no model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "Qwen3ForCausalLM"),
        ({"hidden_act": "relu"}, "relu"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes are not supported; fp8"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "dynamic"),
        ({"num_key_value_heads": 3}, "3 key-value heads"),
        ({"hidden_size": None}, "lacks hidden_size"),
        (
            {"architectures": ["Gemma3ForCausalLM"], "attn_logit_softcapping": 50.0},
            "attn_logit_softcapping is not known in Gemma3",
        ),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    facts = {**SMALL, "architectures": ["LlamaForCausalLM"], **changed}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(UnusableModel, match=told):
        ModelConfig.load(tmp_path)


@pytest.mark.parametrize(("quantize", "error"), [("int8", 0.3), ("fp8", 0.6)])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_of_fewer_bits_are_nearly_the_same(
    quantize: str, error: float, tied: bool, tmp_path: Path
) -> None:
    write(tmp_path, "Qwen2", {"tie_word_embeddings": tied})
    model = load(tmp_path, quantize=quantize)
    if quantize == "fp8":
        assert (model.head.weight.data_ptr() == model.embed.weight.data_ptr()) == tied
    engine = Engine(model, EngineConfig())
    out: list[Delta] = []
    job = Job(PROMPT, Sampling(temperature=0, max_tokens=1, ignore_eos=True, logprobs=96))
    engine.add(job, lambda _, delta: out.append(delta))
    engine.step()
    found = dict(out[0].logprobs[0].likeliest)
    expected = logits(tmp_path)[2]
    assert max(abs(found[token] - float(expected[token])) for token in range(96)) < error
