"""Every family of decoders computes what transformers computes, on tiny random models in fp32."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: make .make/dev")

from local_backend.config import ModelConfig, UnusableModel  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.families import FAMILIES  # noqa: E402
from local_backend.loader import load  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.types import Delta, Job, Sampling  # noqa: E402

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "eos_token_id": None, "bos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("Llama", {}),
    "Llama tied, with biases": ("Llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "Llama 3 positions": ("Llama", {"rope_parameters": LLAMA3}),
    "Mistral with a window": ("Mistral", {"sliding_window": 8}),
    "Qwen2": ("Qwen2", {}),
    "Qwen3": ("Qwen3", {"head_dim": 16}),
    "Gemma 2": ("Gemma2", {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 16,
                           "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),
    "Gemma 3": ("Gemma3", {"head_dim": 8, "sliding_window": 8, "num_hidden_layers": 7, "query_pre_attn_scalar": 16}),
    "Phi-3": ("Phi3", {"original_max_position_embeddings": 128}),
    "Granite": ("Granite", {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5,
                            "attention_multiplier": 0.2}),
    "OLMo 2": ("Olmo2", {}),
    "SmolLM3": ("SmolLM3", {"no_rope_layer_interval": 2}),
}  # fmt: skip
PROMPT = [(17 * place + 5) % 96 for place in range(40)]


def theirs(case: str, folder: Path) -> Any:
    """A random model of transformers, kept in `folder`."""
    family, more = CASES[case]
    kind = "Gemma3Text" if family == "Gemma3" else family
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **more})
    torch.manual_seed(3)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    return model


def test_every_family_has_a_case() -> None:
    assert {family for family, _ in CASES.values()} == set(FAMILIES)


@pytest.mark.parametrize("case", CASES)
def test_logits_agree_with_transformers(case: str, tmp_path: Path) -> None:
    """Told through logprobs of the whole vocabulary, for the prompt computed in two uneven pieces."""
    reference = theirs(case, tmp_path)
    engine = Engine(load(tmp_path, "float32"), EngineConfig(step_tokens=23))
    deltas: list[Delta] = []
    sampling = Sampling(temperature=0.0, max_tokens=3, logprobs=96, ignore_eos=True)
    engine.add(Job(PROMPT, sampling), lambda _, delta: deltas.append(delta))
    while engine.has_work:
        engine.step()
    engine.close()
    ids = [token for delta in deltas for token in delta.ids]
    with torch.inference_mode():
        logits = reference(torch.tensor([PROMPT + ids])).logits[0].float().log_softmax(-1)
    for place, (token, (_, likeliest)) in enumerate(
        zip(ids, (one for delta in deltas for one in delta.logprobs), strict=True)
    ):
        expected = logits[len(PROMPT) - 1 + place]
        ours = torch.empty(96)
        for other, value in likeliest:
            ours[other] = value
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
        assert token == int(expected.argmax())


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    theirs("Llama", tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnusableModel, match=r"model\.safetensors"):
        load(tmp_path, "float32")


def test_what_is_no_decoder_of_ours_is_refused_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    with pytest.raises(UnusableModel, match="BertModel is not supported; LlamaForCausalLM"):
        ModelConfig.load(tmp_path)
