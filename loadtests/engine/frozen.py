"""A step of decoding that can be computed over and over: what the device takes without scheduler, draws and text."""

import torch
from torch import Tensor

from loadtests.engine.subjects import prompts
from local_backend.attention import Batch
from local_backend.cache import Cache, cache_dtype
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.types import Piece, Sampling, Sequence


class Frozen:
    """`rows` sequences that all have `context` tokens in a cache of noise, and one more to be computed."""

    def __init__(self, model: Decoder, rows: int, context: int) -> None:
        config, size, device = model.config, EngineConfig().block_size, model.embed.weight.device
        each = context // size + 1
        cache = Cache(config, 1 + rows * each, size, cache_dtype(model.embed), device)
        for number in range(config.layers):
            for kept in cache.layer(number):
                kept.rows.normal_()
        pieces = []
        for number, (token,) in enumerate(prompts(rows, 1, config.vocab_size)):
            first = 1 + number * each
            sequence = Sequence(
                number, [token] * (context + 1), context, context + 2, Sampling(), lambda *_: None,
                table=list(range(first, first + each)),
            )  # fmt: skip
            pieces.append(Piece(sequence, context, 1))
        self._model, self._batch = model, Batch(pieces, cache)
        self._ends = torch.tensor(self._batch.ends, device=device)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The likeliest next id of each row, which nobody waits for."""
        batch = self._batch
        hidden = self._model(batch.ids, batch.positions, batch.attend)
        return self._model.logits(hidden[self._ends]).argmax(-1)
