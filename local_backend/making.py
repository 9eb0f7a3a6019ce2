"""From a folder to the engine that serves it."""

from dataclasses import replace
from pathlib import Path

from local_backend import machine, sizing
from local_backend.config import ModelConfig
from local_backend.embedder import Embedder
from local_backend.encoder import load_encoder
from local_backend.encoder_config import is_encoder
from local_backend.encoder_engine import EncoderEngine
from local_backend.engine import Engine
from local_backend.loader import DTYPES, load
from local_backend.options import Setup
from local_backend.pooling import pooling_of
from local_backend.runner import cache_dtype
from local_backend.trial import compiler_of


def engine_of(setup: Setup) -> Engine | EncoderEngine:
    """Its weights are loaded, and its cache takes of the memory what `setup` says. Raises UnusableModel."""
    folder = Path(setup.folder)
    pooling = pooling_of(folder)
    if is_encoder(folder):
        kind = DTYPES.get(setup.dtype, DTYPES["float32"])  # encoders are small: auto is fp32
        encoder = load_encoder(folder, kind, int8=setup.quantize == "int8")
        assert pooling is not None, "load_encoder refuses such a folder"
        return EncoderEngine(Embedder(encoder, pooling), setup.config)
    shape = ModelConfig.load(folder)
    sizing.check_weights(shape, setup, sizing.stored_bytes(folder), machine.available_memory())
    model = load(folder, setup.dtype, setup.quantize)
    token = shape.kv_bytes(cache_dtype(model).itemsize)
    memory = sizing.kv_memory(shape, setup, token, machine.available_memory())
    config = replace(setup.config, kv_memory=memory)
    embedder = Embedder(model, pooling) if pooling else None
    return Engine(model, config, compile=compiler_of(folder), embedder=embedder)
