"""How the engine is to run its model. Torch-free."""

from dataclasses import dataclass, field

KV_SHARE = 0.25  # of the memory that is left: the gateway, and what else runs here, want to live too


@dataclass(slots=True, frozen=True)
class EngineConfig:
    """How much the engine may take. `kv_memory` in bytes, the rest in tokens, blocks or sequences."""

    block_size: int = 16
    step_tokens: int = 512  # computed in one step at most: decodes never wait for a long prompt
    max_seqs: int = 64
    max_waiting: int = 256
    max_len: int | None = None  # of prompt and answer together; the model's own bound by default
    kv_memory: int = 1 << 30
    overlap: bool = False  # plan a step while the one before it is computed
    speculate: int = 0  # drafts tried at most in one step of a sequence; 0: none


@dataclass(slots=True, frozen=True)
class Setup:
    """What an engine is made of: the first word to its process. `threads` 0: as many as suit the model. `ranks`:
    processes that compute it together, each with its share.
    `kv_memory`: bytes, or a share of the memory that is left beside the weights; it sets that of `config`."""

    folder: str
    dtype: str = "auto"
    quantize: str = "none"
    threads: int = 0
    ranks: int = 1
    kv_memory: int | float = KV_SHARE
    config: EngineConfig = field(default_factory=EngineConfig)
