"""What the folder of an encoder says about it. Torch-free."""

from dataclasses import dataclass
from pathlib import Path

from local_backend.config import UnusableModel, architecture_of, read_json, reading, size_of
from local_backend.families import ENCODERS
from local_backend.pooling import pooling_of

_GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def is_encoder(folder: Path) -> bool:
    """Whether its model makes embeddings alone. Raises UnusableModel."""
    path = folder / "config.json"
    raw = read_json(path)
    with reading(path):
        return architecture_of(raw) in ENCODERS


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
        path = folder / "config.json"
        raw = read_json(path)
        if pooling_of(folder) is None:
            raise UnusableModel(
                f"{folder}: has no modules.json that says how an encoder's states are to be pooled"
            )
        with reading(path):
            if raw.get("position_embedding_type", "absolute") != "absolute" or raw["hidden_act"] not in _GELU:
                raise UnusableModel("encoders with absolute positions and a gelu are supported alone")
            hidden, heads = size_of(raw, "hidden_size"), size_of(raw, "num_attention_heads")
            if hidden % heads:
                raise UnusableModel(f"{heads} heads cannot share {hidden} elements evenly")
            first = raw.get("pad_token_id", 1) + 1 if ENCODERS[architecture_of(raw)] else 0
            return cls(
                size_of(raw, "vocab_size"), hidden, size_of(raw, "intermediate_size"),
                size_of(raw, "num_hidden_layers"), heads, size_of(raw, "max_position_embeddings") - first,
                size_of(raw, "type_vocab_size", 2), float(raw.get("layer_norm_eps", 1e-12)),
                _GELU[raw["hidden_act"]], first,
            )  # fmt: skip
