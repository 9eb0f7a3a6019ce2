"""Whole models through the kernels say what they say without."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip(
    "triton", reason="triton is not installed: it is made for Linux on x86-64, see requirements/dev.in"
)

from torch import Tensor  # noqa: E402

from local_backend import kernels  # noqa: E402
from local_backend.config import ModelConfig  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.families import FAMILIES  # noqa: E402
from local_backend.loader import build, export  # noqa: E402
from local_backend.model import Decoder  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.types import Job, Sampling  # noqa: E402

PROMPTS = [[(7 * row + at) % 64 for at in range(length)] for row, length in enumerate((2, 5, 22))]
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"family": FAMILIES["Llama"], "rotary_dim": 8},
    "qwen 3": {"family": FAMILIES["Qwen3"], "head_dim": 24},
    "gemma 3": {
        "family": FAMILIES["Gemma3"], "windows": (9, 0), "window_theta": 1e3, "activation": "gelu_tanh",
        "attention_softcap": 3.0, "embedding_scale": 5.0,
    },
    "olmo 2": {"family": FAMILIES["Olmo2"], "unrotated": frozenset({1}), "residual_scale": 0.5},
}  # fmt: skip


def model(dtype: Any = torch.float32, **asked: Any) -> Decoder:
    shape = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 4, "kv_heads": 2,
        "head_dim": 16, "max_positions": 128, "rms_eps": 1e-5, "rope_theta": 1e4, "tied": True, "eos": (), "bos": None,
        "temperature": 1.0,
    }  # fmt: skip
    torch.manual_seed(5)
    made = Decoder(ModelConfig(**{**shape, **asked}))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.3)
    return made.to(dtype).eval().requires_grad_(False)


def generate(made: Decoder, prompts: list[list[int]], config: EngineConfig, **asked: Any) -> list[list[int]]:
    """The tokens of each prompt; one joins after the other, so that prompts and decodes share steps."""
    engine = Engine(made, config)
    told: list[list[int]] = [[] for _ in prompts]
    sampling = Sampling(**{"temperature": 0.0, "max_tokens": 3, **asked})
    for prompt, heard in zip(prompts, told, strict=True):
        engine.add(Job(prompt, sampling), lambda _, delta, heard=heard: heard.extend(delta.ids))  # type: ignore[misc]
        engine.step()
    while engine.has_work:
        engine.step()
    engine.close()
    return told


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_same_is_said_through_kernels(
    shape: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EngineConfig(step_tokens=20)  # the longest prompt comes in pieces
    monkeypatch.setattr(kernels, "wanted", False)
    expected = generate(model(**shape), PROMPTS, config)
    monkeypatch.setattr(kernels, "wanted", True)
    assert generate(model(**shape).to(device), PROMPTS, config) == expected


class Made:
    """A model's own weights, to be kept otherwise."""

    def __init__(self, made: Decoder, device: str) -> None:
        self._tensors = {name: one.to(device) for name, one in export(made).items()}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def read(self, name: str, shape: tuple[int, ...], cut: tuple[slice, ...] | None = None) -> Tensor:
        return self._tensors[name][cut or ...]


def test_fp8_weights_say_the_same_through_kernels(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, prompts = model(), PROMPTS[1:]
    config = EngineConfig(step_tokens=20)  # some steps have few rows, one has many
    monkeypatch.setattr(kernels, "wanted", False)
    made = build(plain.config, Made(plain, "cpu"), torch.float32, "fp8")
    expected = generate(made, prompts, config, max_tokens=2)
    monkeypatch.setattr(kernels, "wanted", True)
    made = build(plain.config, Made(plain, device), torch.float32, "fp8")
    assert generate(made, prompts, config, max_tokens=2) == expected


def test_seeded_draws_are_the_same_through_kernels_and_overlapping(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"temperature": 0.8, "seed": 3, "min_p": 0.02, "frequency_penalty": 0.5}
    monkeypatch.setattr(kernels, "wanted", False)
    expected = generate(model(), PROMPTS[:2], EngineConfig(), **asked)
    monkeypatch.setattr(kernels, "wanted", True)
    assert generate(model().to(device), PROMPTS[:2], EngineConfig(overlap=True), **asked) == expected


def test_what_flows_has_the_type_of_the_weights(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "wanted", True)
    made = model(torch.bfloat16).to(device)
    types: list[Any] = []
    for name in ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down"):
        module = made.layers[1].get_submodule(name)
        module.register_forward_pre_hook(lambda _, given: types.append(given[0].dtype))
    assert all(len(one) == 2 for one in generate(made, PROMPTS[:2], EngineConfig(), max_tokens=2))
    assert set(types) == {torch.bfloat16}
