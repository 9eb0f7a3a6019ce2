"""Which architectures there are. A family is a row of flags, and of what its `config.json` leaves unsaid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# A flag of the family, or the key of config.json that holds it.
Flag = bool | str


@dataclass(slots=True, frozen=True)
class Family:
    """How one family differs from Llama.

    `norms` stand before each block, after it, or on both sides; `qk_norm` is over each head or over all heads at
    once; `window` says which layers see `sliding_window` tokens only; `defaults` stand in for absent keys."""

    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    norms: Literal["before", "after", "both"] = "before"
    norm_plus_one: bool = False  # a norm scales by 1 + weight
    qk_norm: Literal["", "head", "all"] = ""
    scaled_embedding: bool = False  # by the root of hidden_size
    window: Literal["", "all", "upper", "pattern", "unrotated"] = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)


_GEMMA = {"tie_word_embeddings": True, "query_pre_attn_scalar": 256, "sliding_window": 4096, "head_dim": 256}

LLAMA = Family(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias")
# By the name before `ForCausalLM`.
FAMILIES = {
    "Llama": LLAMA,
    "Mistral": Family(window="all", defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "Qwen2": Family(qkv_bias=True, window="upper"),
    "Qwen3": Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        qk_norm="head",
        window="upper",
        defaults={"head_dim": 128},
    ),
    "Gemma2": Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        norms="both",
        norm_plus_one=True,
        scaled_embedding=True,
        window="pattern",
        defaults={
            **_GEMMA,
            "sliding_window_pattern": 2,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    "Gemma3": Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        norms="both",
        norm_plus_one=True,
        qk_norm="head",
        scaled_embedding=True,
        window="pattern",
        defaults={
            **_GEMMA,
            "sliding_window_pattern": 6,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "max_position_embeddings": 131_072,
        },
    ),
    "Phi3": Family(window="all", defaults={"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096}),
    "Granite": Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias="mlp_bias",
        defaults={"attention_multiplier": 1.0},
    ),
    "Olmo2": Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        norms="after",
        qk_norm="all",
        defaults={"rms_norm_eps": 1e-5},
    ),
    "SmolLM3": Family(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias="mlp_bias",
        window="unrotated",
        defaults={
            "tie_word_embeddings": True,
            "rope_theta": 2_000_000.0,
            "num_key_value_heads": 4,
            "no_rope_layer_interval": 4,
        },
    ),
}
SUPPORTED = tuple(f"{name}ForCausalLM" for name in FAMILIES)
# Whether positions begin behind the padding's id, as RoBERTa's do (Liu et al., 2019; so do XLM-R, E5 and BGE-M3).
ENCODERS = {"BertModel": False, "RobertaModel": True, "XLMRobertaModel": True}


def family_of(architecture: str) -> Family | None:
    """None for what is not supported."""
    return FAMILIES.get(architecture.removesuffix("ForCausalLM")) if architecture in SUPPORTED else None
