"""A model that recites: weights made by hand, with which each token is followed by one that is known beforehand.
Real weights in the real engine, and what they say is up to the test."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import httpx2
import openai
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models

SIZE = 64  # of the vocabulary, and of a hidden state: one element a token


def reciting(
    folder: Path, pieces: Sequence[str], template: str, specials: Sequence[str] = (), after: str = "<|go|>"
) -> Path:
    """Write a model folder. The model says the pieces, each of which occurs once, when its prompt ends with `after`."""
    words = ["<unk>", "<|end|>", "<|go|>", *dict.fromkeys([after, *pieces, *specials])]
    words = list(dict.fromkeys(words))
    assert len(words) <= SIZE
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, "<unk>"))
    tokenizer.decoder = decoders.Fuse()
    hidden = {"<|end|>", "<|go|>", *specials}
    tokenizer.add_tokens([AddedToken(word, special=False) for word in words[1:] if word not in hidden])
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in words if word in hidden])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    said = [after, *pieces, "<|end|>"]
    follows = {words.index(one): words.index(other) for one, other in pairwise(said)}
    save_file(_weights(follows), folder / "model.safetensors", {"format": "pt"})
    facts = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": SIZE, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": SIZE, "eos_token_id": 1,
        "max_position_embeddings": 512, "tie_word_embeddings": False, "rope_theta": 1e4, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(facts))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return folder


def _weights(follows: dict[int, int]) -> dict[str, torch.Tensor]:
    head = torch.zeros(SIZE, SIZE)
    for token, following in follows.items():
        head[following, token] = 10.0
    layer = {
        "self_attn.q_proj": (SIZE, SIZE), "self_attn.k_proj": (SIZE, SIZE), "self_attn.v_proj": (SIZE, SIZE),
        "self_attn.o_proj": (SIZE, SIZE), "mlp.gate_proj": (8, SIZE), "mlp.up_proj": (8, SIZE),
        "mlp.down_proj": (SIZE, 8),
    }  # fmt: skip
    found = {f"model.layers.0.{name}.weight": torch.zeros(shape) for name, shape in layer.items()}
    norms = ["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.norm"]
    found |= {f"{name}.weight": torch.ones(SIZE) for name in norms}
    return found | {"model.embed_tokens.weight": torch.eye(SIZE), "lm_head.weight": head}


@contextmanager
def serving(model: Path | str, place: Path, *flags: str) -> Iterator[str]:
    """The engine as a program of its own, over a unix socket in `place`, until the block ends."""
    socket = place / "engine.sock"
    command = [sys.executable, "-m", "local_backend", "--model", str(model), "--listen", f"unix:{socket}"]
    process = subprocess.Popen([*command, *flags, "--exit-with-stdin"], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        with client_of(str(socket)) as client:
            while client.get("/health").status_code != 200:
                assert time.monotonic() < deadline, "the engine did not become ready"
                time.sleep(0.05)
        yield str(socket)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0, "the engine ends with its standard input"


def client_of(socket: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://engine", timeout=60)


def sdk(socket: str) -> openai.OpenAI:
    """The official client; to be closed."""
    client = httpx2.Client(transport=httpx2.HTTPTransport(uds=socket), timeout=60)
    return openai.OpenAI(api_key="x", base_url="http://engine/v1", http_client=client)
