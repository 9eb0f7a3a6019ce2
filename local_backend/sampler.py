"""From logits to the next ids. A draw depends on its row, seed, choice and position alone, never on neighbours.

Order: logit_bias, penalties, min_tokens, grammar, temperature, top-k, top-p, min-p, draw. Rows that ask for
nothing of a kind are not touched by it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from local_backend.devices import send
from local_backend.kernels import ready
from local_backend.types import Draw, Logprob

# SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), as signed integers
_GAMMA, _FIRST, _SECOND = (
    value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_LIKELY = 256  # ids looked at first for top-p: a whole sort of a large vocabulary costs ten times as much
CHUNK = 4096  # ids that kernels read at once
Masks = Mapping[int, npt.NDArray[np.int32]]  # index of a draw -> which ids its grammar allows, a bit each


class Drawn(NamedTuple):
    """ids [draws]; what `logprobs` reads, where a row asks: rows asked, drawn, values and ids of the likeliest."""

    ids: Tensor
    asked: list[int]
    scores: tuple[Tensor, Tensor, Tensor] | None

    def sent_home(self) -> "Drawn":
        """On its way to the processor's memory."""
        ids = self.ids.to("cpu", non_blocking=True)
        if self.scores is None:
            return Drawn(ids, self.asked, None)
        drawn, values, likeliest = (one.to("cpu", non_blocking=True) for one in self.scores)
        return Drawn(ids, self.asked, (drawn, values, likeliest))

    def logprobs(self, draws: list[Draw]) -> dict[int, Logprob]:
        """Index of a draw -> what it asked for. Waits for the device, where it is not at home yet."""
        if self.scores is None:
            return {}
        drawn, values, ids = (one.tolist() for one in self.scores)
        found = {}
        for at, index in enumerate(self.asked):
            most = draws[index].sequence.sampling.logprobs or 0
            found[index] = Logprob(drawn[at], tuple(zip(ids[at][:most], values[at][:most], strict=True)))
        return found


class Sampler:
    """For one vocabulary; `eos` is what min_tokens keeps from being drawn."""

    def __init__(self, vocabulary: int, eos: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self._eos, self._device = eos, torch.device(device)
        self._counters = torch.arange(1, vocabulary + 1, device=device) * _GAMMA

    def __call__(self, logits: Tensor, draws: list[Draw], masks: Masks | None = None) -> Drawn:
        """One id per draw from its row of fp32 logits [draws, vocabulary], which are used up."""
        samplings = [draw.sequence.sampling for draw in draws]
        asked = [index for index, one in enumerate(samplings) if one.logprobs is not None]
        raw = logits[at := self._tensor(asked)].log_softmax(-1) if asked else None
        if any(one.edits for one in samplings):
            self._edit(logits, draws, masks or {})
        ids = by_kernels(logits, draws) if ready(logits.device) else self._ids(logits, draws)
        if raw is None:
            return Drawn(ids, [], None)
        most = max(max(samplings[index].logprobs or 0 for index in asked), 1)
        best = raw.topk(min(most, raw.shape[-1]))
        return Drawn(ids, asked, (raw.gather(1, ids[at][:, None])[:, 0], best.values, best.indices))

    def _edit(self, logits: Tensor, draws: list[Draw], masks: Masks) -> None:
        biases = [
            (index, token, bias)
            for index, draw in enumerate(draws)
            for token, bias in draw.sequence.sampling.logit_bias
        ]
        if biases:
            rows, tokens, values = self._columns(biases)
            logits.index_put_((rows.long(), tokens.long()), values, accumulate=True)
        self._penalise(logits, draws)
        banned = [
            (index, token)
            for index, (_, sequence, position, _) in enumerate(draws)
            if position - sequence.prompt < sequence.sampling.min_tokens
            for token in (*self._eos, *sequence.sampling.stop_ids)
        ]
        if banned:
            rows, tokens = self._columns(banned)
            logits[rows.long(), tokens.long()] = -torch.inf
        for index, mask in masks.items():
            allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: logits.shape[-1]]
            logits[index].masked_fill_(send(allowed, self._device) == 0, -torch.inf)

    def _penalise(self, logits: Tensor, draws: list[Draw]) -> None:
        """Repetition divides what was seen in prompt and answer (Keskar et al., 2019); the others subtract for
        what the answer holds, as OpenAI defines them."""
        for index, (_, sequence, position, _) in enumerate(draws):
            asked = sequence.sampling
            if not asked.penalised:
                continue
            row, counts = logits[index], Counter(sequence.counts)
            counts.update(sequence.tokens[sequence.known : position])  # the drafts that it builds on
            if asked.repetition_penalty != 1.0:
                seen = self._tensor(list({*sequence.tokens[: sequence.prompt], *counts}))
                values, penalty = row[seen], asked.repetition_penalty
                row[seen] = torch.where(values > 0, values / penalty, values * penalty)
            if counts:
                ids, times = self._tensor(list(counts)), self._tensor(list(counts.values()))
                row[ids] -= asked.presence_penalty + asked.frequency_penalty * times

    def _ids(self, logits: Tensor, draws: list[Draw]) -> Tensor:
        ids = logits.argmax(-1)
        warm = [index for index, draw in enumerate(draws) if draw.sequence.sampling.temperature > 0]
        if warm:
            rows = logits if len(warm) == len(draws) else logits[warm]
            ids[warm] = self._draw(rows, [draws[index] for index in warm])
        return ids

    def _draw(self, rows: Tensor, draws: list[Draw]) -> Tensor:
        samplings = [draw.sequence.sampling for draw in draws]
        rows = rows / self._tensor([one.temperature for one in samplings])[:, None]
        if few := [index for index, one in enumerate(samplings) if one.top_k]:
            rows[few] = _keep_top_k(rows[few], [samplings[index].top_k for index in few])
        if few := [index for index, one in enumerate(samplings) if one.top_p < 1]:
            rows[few] = _keep_top_p(rows[few], self._tensor([samplings[index].top_p for index in few]))
        if few := [index for index, one in enumerate(samplings) if one.min_p > 0]:
            least = self._tensor([samplings[index].min_p for index in few]).log()
            best = rows[few].amax(-1)
            rows[few] = rows[few].masked_fill(rows[few] < (best + least)[:, None], -torch.inf)
        return (rows + self._noise(draws)).argmax(-1)

    def _noise(self, draws: list[Draw]) -> Tensor:
        """Gumbel noise [draws, vocabulary]: the largest of logit + noise is a draw from the softmax. A counter-based
        generator: each number is a function of (seed, choice, position, token id) alone."""
        z = self._counters + self._tensor([key_of(draw) for draw in draws])[:, None]
        z ^= (z >> 30) & ((1 << 34) - 1)  # the mask: >> repeats the sign
        z *= _FIRST
        z ^= (z >> 27) & ((1 << 37) - 1)
        z *= _SECOND
        z ^= (z >> 31) & ((1 << 33) - 1)
        # 23 bits and a half: exact in fp32, never 0 or 1
        uniform = ((z >> 41) & ((1 << 23) - 1)).float().add_(0.5).mul_(2.0**-23)
        return uniform.log_().neg_().log_().neg_()

    def _tensor(self, values: list[int] | list[float]) -> Tensor:
        return send(values, self._device)

    def _columns(self, rows: Sequence[tuple[float, ...]]) -> list[Tensor]:
        return [self._tensor(list(column)) for column in zip(*rows, strict=True)]


def by_kernels(logits: Tensor, draws: list[Draw], chunk: int = CHUNK) -> Tensor:
    """The same by kernels, which read `chunk` ids at once: draws with all that they ask, greedy ones among them."""
    from local_backend.kernels import sampling  # needs Triton

    def column(kind: torch.dtype, values: list[float] | list[int]) -> Tensor:
        return send(values, logits.device, kind)

    asked = [draw.sequence.sampling for draw in draws]
    wanted = sampling.Asked(
        column(torch.float32, [one.temperature for one in asked]),
        column(torch.int64, [key_of(draw) for draw in draws]),
        column(torch.int32, [one.top_k for one in asked]),
        column(torch.float32, [one.top_p for one in asked]),
        column(torch.float32, [one.min_p for one in asked]),
        any(one.top_k or one.top_p < 1 or one.min_p > 0 for one in asked),
    )
    return sampling.draw(logits, wanted, chunk)


def _keep_top_k(rows: Tensor, most: list[int]) -> Tensor:
    """The k likeliest of each row, and what ties with the last of them."""
    size = rows.shape[-1]
    best = rows.topk(min(max(most), size)).values
    last = torch.tensor([[min(k, size) - 1] for k in most], device=rows.device)
    return rows.masked_fill(rows < best.gather(1, last), -torch.inf)


def _keep_top_p(rows: Tensor, top_p: Tensor) -> Tensor:
    """The smallest set of ids whose probability reaches top_p, and what ties with the last of it."""
    probabilities = rows.softmax(-1)
    ordered = probabilities.topk(min(_LIKELY, rows.shape[-1])).values
    if bool((ordered.sum(-1) < top_p).any()):
        ordered = probabilities.sort(descending=True).values
    before = ordered.cumsum(-1) - ordered
    last = (before < top_p[:, None]).sum(-1, keepdim=True).clamp_(min=1) - 1
    return rows.masked_fill(probabilities < ordered.gather(1, last), -torch.inf)


def key_of(draw: Draw) -> int:
    """Of its noise: 64 well mixed bits, as a signed integer."""
    sampling, z = draw.sequence.sampling, 0
    for part in (sampling.seed, sampling.choice, draw.position):
        z = (z + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        z ^= z >> 31
    return z - (1 << 64) if z >> 63 else z
