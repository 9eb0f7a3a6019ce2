"""How the engine is to run its model. Torch-free."""

from dataclasses import dataclass, field, replace

KV_SHARE = 0.25  # of the memory that is left: the gateway, and what else runs here, want to live too
GPU_KV_SHARE = 0.9  # a GPU is there for the engine alone


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
    kv_cache_dtype: str = "auto"  # as the weights; or fp8
    deterministic: bool = False  # the same bits whoever shares the batch; of a GPU
    enforce_eager: bool = False  # no CUDA graphs: each operation of a step is launched by itself
    speculate: int = 0  # drafts tried at most in one step of a sequence; 0: none


@dataclass(slots=True, frozen=True)
class Setup:
    """What an engine is made of: the first word to its process. `device`: cpu, cuda, or auto for a GPU where there is
    one. `threads` 0: as many as suit the model. `ranks`: processes that compute it together, each with its share.
    `kv_memory`: bytes, or a share of the memory that is left beside the weights, and `max_seqs`: None for what suits
    the device; they set those of `config`."""

    folder: str
    dtype: str = "auto"
    quantize: str = "none"
    threads: int = 0
    ranks: int = 1
    kv_memory: int | float | None = None
    config: EngineConfig = field(default_factory=EngineConfig)
    device: str = "auto"
    max_seqs: int | None = None

    def suited(self, *, gpu: bool) -> "Setup":
        """What was left open is as the device likes it. A GPU takes many rows at once, and larger blocks; it works by
        itself while the next step is planned."""
        seqs = self.max_seqs or (256 if gpu else self.config.max_seqs)
        config = replace(self.config, max_seqs=seqs)
        if gpu:
            config = replace(config, block_size=32, step_tokens=8192, overlap=True)
        share = GPU_KV_SHARE if gpu else KV_SHARE
        return replace(self, config=config, kv_memory=share if self.kv_memory is None else self.kv_memory)
