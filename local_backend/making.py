"""From a folder to the engine that serves it."""

from dataclasses import replace
from pathlib import Path

from local_backend import devices, probing, sizing
from local_backend.cache import cache_dtype, token_bytes
from local_backend.config import ModelConfig, UnusableModel
from local_backend.embedder import Embedder
from local_backend.encoder import load_encoder
from local_backend.encoder_config import is_encoder
from local_backend.encoder_engine import EncoderEngine
from local_backend.engine import Engine
from local_backend.layers import hold_steady
from local_backend.loader import DTYPES, load
from local_backend.options import Setup
from local_backend.pooling import pooling_of
from local_backend.share import Share
from local_backend.team import Team
from local_backend.trial import compiler_of
from local_backend.weights import Tell


def engine_of(setup: Setup, tell: Tell = lambda how_far: None) -> Engine | EncoderEngine:
    """Its weights are loaded, and its cache takes of the memory what `setup` says. Raises UnusableModel."""
    device = devices.take(setup.device, setup.ranks)
    devices.check(setup, device)
    setup, folder = setup.suited(gpu=device.type == "cuda"), Path(setup.folder)
    pooling = pooling_of(folder)
    if is_encoder(folder):
        if setup.ranks > 1:
            raise UnusableModel(f"{folder}: an encoder is served by one rank; leave --tensor-parallel out")
        kind = DTYPES.get(setup.dtype, DTYPES["float32"])  # encoders are small: auto is fp32
        encoder = load_encoder(folder, kind, setup.quantize, device)
        assert pooling is not None, "load_encoder refuses such a folder"
        return EncoderEngine(Embedder(encoder, pooling), setup.config)
    shape = ModelConfig.load(folder)
    # Ranks on a processor share its memory; of GPUs each has its own.
    together = 1 if device.type == "cuda" else setup.ranks
    stored = sizing.stored_bytes(folder)
    sizing.check_weights(shape, setup, stored, devices.available_memory(device), together)
    share = Share(0, setup.ranks)
    share.of(shape)  # what cannot be dealt out is told before others are started
    team = Team(setup, device) if setup.ranks > 1 else None
    model = load(folder, setup.dtype, setup.quantize, share, team.join if team else None, device, tell=tell)
    if setup.config.deterministic:
        hold_steady(model)
    if team:
        team.meet()  # the weights of all are loaded: what is left is left for their caches
    spare = probing.step_bytes(model, setup.config)
    available = devices.available_memory(device) - spare
    token = together * token_bytes(model.config, cache_dtype(model.embed, setup.config.kv_cache_dtype))
    memory = sizing.kv_memory(shape, setup, token, team.least(available) if team else available)
    config = replace(setup.config, kv_memory=memory // together)
    # A prompt to be embedded goes by no plan that followers hear of.
    embedder = Embedder(model, pooling) if pooling and not team else None
    engine = Engine(model, config, compile=compiler_of(folder), embedder=embedder, team=team)
    engine.warm(tell)
    return engine
