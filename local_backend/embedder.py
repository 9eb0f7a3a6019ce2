"""Vectors out of models: states of all tokens, pooled as the folder says. And the queue of those who wait for one."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import isfinite

import torch
from torch import Tensor
from torch.nn import functional

from local_backend.attention import Batch
from local_backend.cache import Cache
from local_backend.encoder import Encoder
from local_backend.encoder_config import EncoderConfig
from local_backend.metrics import Metrics
from local_backend.model import Decoder
from local_backend.pooling import Pooling
from local_backend.types import Delta, Finish, Full, Piece, Sampling, Sequence

MOST_WAITING = 8192  # inputs: four calls of the largest kind
_BLOCK = 16


class Embedder:
    """`max_len`: tokens that one input may have; `size`: elements of a vector."""

    def __init__(self, model: Decoder | Encoder, pooling: Pooling) -> None:
        self._model, self._pooling = model, pooling
        config = model.config
        positions = config.positions if isinstance(config, EncoderConfig) else config.max_positions
        self.max_len = min(pooling.most or positions, positions)
        self.size, self.vocabulary = config.hidden_size, config.vocab_size

    @torch.inference_mode()
    def __call__(self, inputs: list[list[int]]) -> list[list[float]]:
        """One vector of each; inputs do not see one another."""
        hidden = self._model(inputs) if isinstance(self._model, Encoder) else states(self._model, inputs)
        vectors = torch.stack([self._pool(one) for one in hidden])
        if self._pooling.normalize:
            vectors = functional.normalize(vectors, dim=-1)
        found: list[list[float]] = vectors.tolist()
        return found

    def _pool(self, states: Tensor) -> Tensor:
        match self._pooling.how:
            case "mean":
                return states.mean(0)
            case "cls":
                return states[0]
            case "last":
                return states[-1]


def states(model: Decoder, inputs: list[list[int]]) -> list[Tensor]:
    """Of a decoder, through pages of its own that nobody keeps: attention is the same as when it generates."""
    blocks = [-(-len(one) // _BLOCK) for one in inputs]
    cache = Cache(model.config, 1 + sum(blocks), _BLOCK, torch.float32, model.embed.weight.device)
    pieces, first = [], 1
    for number, (ids, count) in enumerate(zip(inputs, blocks, strict=True)):
        sequence = Sequence(number, ids, len(ids), len(ids), Sampling(), lambda *_: None)
        sequence.table = list(range(first, first + count))
        pieces.append(Piece(sequence, 0, len(ids)))
        first += count
    batch = Batch(pieces, cache)
    hidden = model(batch.ids, batch.positions, batch.attend)
    return [hidden[end + 1 - len(one) : end + 1] for one, end in zip(inputs, batch.ends, strict=True)]


class Embeddings:
    """Inputs that wait; a step takes those that fit its budget of tokens, padding counted, and one at least."""

    def __init__(self, embedder: Embedder, step_tokens: int, metrics: Metrics) -> None:
        self._embedder, self._most, self._metrics = embedder, step_tokens, metrics
        self._waiting: deque[Sequence] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Raises Full."""
        if len(self._waiting) >= MOST_WAITING:
            raise Full(f"{len(self._waiting)} inputs are waiting already", 1)
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        with suppress(ValueError):  # embedded already
            self._waiting.remove(sequence)

    def step(self, end: Callable[[Sequence, Finish], None]) -> None:
        taken: list[Sequence] = []
        longest = 0
        while self._waiting:
            longest = max(longest, self._waiting[0].prompt)
            if taken and longest * (len(taken) + 1) > self._most:
                break
            taken.append(self._waiting.popleft())
        if not taken:
            return
        vectors = self._embedder([one.tokens for one in taken])
        self._metrics.tokens_in += sum(one.prompt for one in taken)
        for sequence, vector in zip(taken, vectors, strict=True):
            finish = Finish.STOP if all(map(isfinite, vector)) else Finish.ERROR  # weights may overflow
            end(sequence, finish)
            told = tuple(vector) if finish is Finish.STOP else ()
            sequence.deliver(0, Delta((), finish, 0, vector=told))
