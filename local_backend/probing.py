"""What a step takes of a GPU's memory beside weights and cache: the largest is tried before the cache is given the
rest."""

import torch

from local_backend.cache import token_bytes
from local_backend.embedder import states
from local_backend.model import Decoder
from local_backend.options import EngineConfig


def step_bytes(model: Decoder, config: EngineConfig) -> int:
    """At most. 0 on a processor, whose share for the cache leaves room enough."""
    device = model.embed.weight.device
    if device.type == "cpu":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    largest_step(model, config)
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return max(
        0, peak - token_bytes(model.config, torch.float32) * config.step_tokens
    )  # its cache was its own


@torch.inference_mode()
def largest_step(model: Decoder, config: EngineConfig) -> None:
    """As many tokens as a step may have, and logprobs for as many rows."""
    longest = min(config.max_len or model.config.max_positions, model.config.max_positions)
    whole, rest = divmod(config.step_tokens, longest)
    inputs = [[0] * longest] * whole + ([[0] * rest] if rest else [])
    hidden = torch.cat(states(model, inputs))
    logits = model.logits(hidden[: config.max_seqs])
    logits.log_softmax(-1).topk(min(20, logits.shape[-1]))
