"""From a folder to the engine that serves it."""

from pathlib import Path

from local_backend.embedder import Embedder
from local_backend.encoder import load_encoder
from local_backend.encoder_config import is_encoder
from local_backend.encoder_engine import EncoderEngine
from local_backend.engine import Engine
from local_backend.loader import DTYPES, load
from local_backend.options import EngineConfig
from local_backend.pooling import pooling_of
from local_backend.trial import compiler_of


def engine_of(folder: Path, dtype: str, quantize: str, config: EngineConfig) -> Engine | EncoderEngine:
    """`dtype` and `quantize` as `loader.load` takes them. Raises UnusableModel."""
    pooling = pooling_of(folder)
    if is_encoder(folder):
        kind = DTYPES.get(dtype, DTYPES["float32"])  # encoders are small: auto is fp32
        encoder = load_encoder(folder, kind, int8=quantize == "int8")
        assert pooling is not None, "load_encoder refuses such a folder"
        return EncoderEngine(Embedder(encoder, pooling), config)
    model = load(folder, dtype, quantize)
    embedder = Embedder(model, pooling) if pooling else None
    return Engine(model, config, compile=compiler_of(folder), embedder=embedder)
