"""Encoders of BERT's kind (Devlin et al., 2018), for embeddings: every token sees all of its text."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from local_backend.config import UnusableModel
from local_backend.encoder_config import EncoderConfig
from local_backend.fp8 import Fp8
from local_backend.layers import Dense, Int8, Table
from local_backend.weights import Weights

_SPARE = (
    "embeddings.position_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
)  # not what embeddings are made of


class EncoderLayer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self._heads, self._gelu = config.heads, config.gelu
        self.qkv, self.out = Dense(hidden, 3 * hidden), Dense(hidden, hidden)
        self.up, self.down = Dense(hidden, config.intermediate_size), Dense(config.intermediate_size, hidden)
        self.attention_norm = nn.LayerNorm(hidden, config.eps)
        self.mlp_norm = nn.LayerNorm(hidden, config.eps)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        texts, length, hidden = x.shape
        rows = self.qkv(x.flatten(0, 1)).view(texts, length, 3, self._heads, -1)
        q, k, v = rows.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        x = x.flatten(0, 1)
        x = self.attention_norm(x + self.out(mixed.reshape(-1, hidden)))
        x = self.mlp_norm(x + self.down(functional.gelu(self.up(x), approximate=self._gelu)))
        return x.view(texts, length, hidden)


class Encoder(nn.Module):
    """Texts as ids -> their tokens' states, fp32 [tokens, hidden_size] each."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.words = Table(config.vocab_size, config.hidden_size)
        self.places = Table(config.first + config.positions, config.hidden_size)
        self.kinds = Table(config.kinds, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.eps)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))

    def forward(self, texts: list[list[int]]) -> list[Tensor]:
        device = self.words.weight.device
        lengths = torch.tensor([len(one) for one in texts], device=device)
        ids = pad_sequence([torch.tensor(one, device=device) for one in texts], batch_first=True)
        at = torch.arange(ids.shape[1], device=device)
        places = self.places(at + self.config.first).float()
        x = self.norm(self.words(ids).float() + places + self.kinds.weight[0].float())
        there = at < lengths[:, None]
        mask = None if bool(there.all()) else there[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return [states[: len(one)] for states, one in zip(x, texts, strict=True)]


def load_encoder(
    folder: Path, dtype: torch.dtype, quantize: str = "none", device: torch.device | str = "cpu"
) -> Encoder:
    """`quantize` none, int8 or fp8: the linear layers. Raises UnusableModel."""
    with torch.device("meta"):
        model = Encoder(EncoderConfig.load(folder))
    with Weights(folder, device) as weights, torch.no_grad():
        for ours, theirs in _places(model.config.layers):
            module = model.get_submodule(ours)
            kept = torch.float32 if isinstance(module, nn.LayerNorm) else dtype
            read: dict[str, Any] = {
                kind: torch.cat([weights.read(f"{one}.{kind}") for one in theirs]).to(kept)
                for kind, _ in module.named_parameters(recurse=False)
            }
            _check(module, read, folder, theirs[0])
            if quantize != "none" and isinstance(module, Dense):
                made = Int8 if quantize == "int8" else Fp8.of
                model.set_submodule(ours, made(read["weight"], read["bias"]))
                continue
            for kind, value in read.items():
                setattr(module, kind, nn.Parameter(value, requires_grad=False))
        weights.check_all_read(*_SPARE)
    return model.eval().requires_grad_(False)


def _check(module: nn.Module, read: dict[str, Tensor], folder: Path, name: str) -> None:
    for kind, parameter in module.named_parameters(recurse=False):
        if read[kind].shape != parameter.shape:
            raise UnusableModel(
                f"{folder}: {name}.{kind} has the shape {tuple(read[kind].shape)} where config.json asks for"
                f" {tuple(parameter.shape)}"
            )


def _places(layers: int) -> list[tuple[str, list[str]]]:
    """A module of ours, and theirs that it is made of, one below the other."""
    names = [
        ("words", "word_embeddings"), ("places", "position_embeddings"), ("kinds", "token_type_embeddings"),
        ("norm", "LayerNorm"),
    ]  # fmt: skip
    found = [(ours, [f"embeddings.{theirs}"]) for ours, theirs in names]
    for number in range(layers):
        ours, theirs = f"layers.{number}.", f"encoder.layer.{number}."
        found += [
            (ours + "qkv", [f"{theirs}attention.self.{one}" for one in ("query", "key", "value")]),
            (ours + "out", [f"{theirs}attention.output.dense"]),
            (ours + "attention_norm", [f"{theirs}attention.output.LayerNorm"]),
            (ours + "up", [f"{theirs}intermediate.dense"]),
            (ours + "down", [f"{theirs}output.dense"]),
            (ours + "mlp_norm", [f"{theirs}output.LayerNorm"]),
        ]
    return found
