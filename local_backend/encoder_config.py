"""What the folder of an encoder says about it. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_backend.config import UnusableModel, read_json
from local_backend.families import ENCODERS
from local_backend.pooling import pooling_of

_GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def is_encoder(folder: Path) -> bool:
    """Whether its model makes embeddings alone. Raises UnusableModel."""
    return _architecture(read_json(folder / "config.json")) in ENCODERS


def _architecture(raw: dict[str, Any]) -> str:
    return str((raw.get("architectures") or [""])[0])


@dataclass(slots=True, frozen=True)
class EncoderConfig:
    """Sizes in elements, positions in tokens. The first token's position is `first`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int
    kinds: int  # of token types, of which a text is the first
    eps: float
    gelu: str
    first: int = 0

    @classmethod
    def load(cls, folder: Path) -> "EncoderConfig":
        """Raises UnusableModel."""
        raw = read_json(folder / "config.json")
        if pooling_of(folder) is None:
            raise UnusableModel(
                f"{folder}: has no modules.json that says how an encoder's states are to be pooled"
            )
        try:
            if raw.get("position_embedding_type", "absolute") != "absolute" or raw["hidden_act"] not in _GELU:
                raise UnusableModel("encoders with absolute positions and a gelu are supported alone")
            first = raw.get("pad_token_id", 1) + 1 if ENCODERS[_architecture(raw)] else 0
            return cls(
                raw["vocab_size"], raw["hidden_size"], raw["intermediate_size"], raw["num_hidden_layers"],
                raw["num_attention_heads"], raw["max_position_embeddings"] - first,
                raw.get("type_vocab_size", 2), raw.get("layer_norm_eps", 1e-12), _GELU[raw["hidden_act"]],
                first,
            )  # fmt: skip
        except KeyError as error:
            raise UnusableModel(f"{folder}/config.json lacks {error.args[0]}") from None
