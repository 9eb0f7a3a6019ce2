"""From logits to the next ids. A row's draw depends on its seed and position alone, never on its neighbours."""

import torch
from torch import Tensor

from local_backend.types import Sequence

_MASK = (1 << 63) - 1


def sample(logits: Tensor, sequences: list[Sequence]) -> list[int]:
    """One id per row of fp32 logits [rows, vocabulary]. Order: temperature, top-k, top-p, min-p, draw."""
    if all(one.sampling.temperature == 0 for one in sequences):
        best: list[int] = logits.argmax(dim=-1).tolist()
        return best
    return [_one(row, sequence) for row, sequence in zip(logits, sequences, strict=True)]


def _one(row: Tensor, sequence: Sequence) -> int:
    asked = sequence.sampling
    if asked.temperature == 0:
        return int(row.argmax())
    row = row / asked.temperature
    if asked.top_k:
        row = row.masked_fill(row < row.topk(min(asked.top_k, len(row))).values[-1], -torch.inf)
    if asked.top_p < 1 or asked.min_p > 0:
        row = _cut(row, asked.top_p, asked.min_p)
    return int(
        (row + _noise(len(row), asked.seed + asked.choice * 0x9E3779B9, len(sequence.tokens))).argmax()
    )


def _cut(row: Tensor, top_p: float, min_p: float) -> Tensor:
    """Keep the smallest set of ids whose probability reaches top_p, and none below min_p of the best."""
    probabilities = row.softmax(-1)
    ordered, ids = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    drop = (before >= top_p) | (ordered < min_p * ordered[0])
    drop[0] = False
    return row.masked_fill(torch.zeros_like(row, dtype=torch.bool).scatter(0, ids, drop), -torch.inf)


def _noise(size: int, seed: int, position: int) -> Tensor:
    """Gumbel noise: the largest of logit + noise is a draw from the softmax."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + position * 7919) & _MASK)
    uniform = torch.rand(size, generator=generator).clamp_(1e-12, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))
