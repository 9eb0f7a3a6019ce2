"""A GPU is taken where one serves; where one is asked for and there is none, the reason is told."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend import devices, machine  # noqa: E402
from local_backend.config import UnusableModel  # noqa: E402
from local_backend.options import EngineConfig, Setup  # noqa: E402


class Machine:
    """What torch says of one with GPUs of this capability."""

    def __init__(self, patch: pytest.MonkeyPatch, gpus: int, capability: tuple[int, int] = (9, 0)) -> None:
        self.current: list[object] = []
        patch.setattr(torch.version, "cuda", "13.0")
        patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        patch.setattr(torch.cuda, "device_count", lambda: gpus)
        patch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
        patch.setattr(torch.cuda, "set_device", self.current.append)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (70 << 30, 80 << 30))


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Machine(monkeypatch, gpus=2)
    device = devices.take("auto", ranks=2, rank=1)
    assert device == devices.take("cuda", ranks=2, rank=1) == torch.device("cuda", 1)
    assert there.current == [device, device], "torch works on it from now on"
    assert devices.available_memory(device) == 70 << 30
    assert devices.take("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("gpus", "capability", "ranks", "why"),
    [
        (0, (9, 0), 1, "torch finds no GPU"),
        (1, (9, 0), 2, "2 ranks ask for a GPU each, and there is 1"),
        (2, (7, 5), 1, r"capability 7\.5, and 8\.0 is needed"),
    ],
)
def test_why_none_serves_is_told_where_one_is_asked_for(
    gpus: int, capability: tuple[int, int], ranks: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, gpus, capability)
    with pytest.raises(UnusableModel, match=f"--device cuda: .*{why}.*; take --device cpu"):
        devices.take("cuda", ranks)
    assert devices.take("auto", ranks) == torch.device("cpu"), "nobody insists"


def test_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UnusableModel, match="is built without CUDA"):
        devices.take("cuda")


@pytest.mark.parametrize(
    ("asked", "ranks", "capability", "why"),
    [
        (
            {"kv_cache_dtype": "fp8"},
            1,
            (8, 6),
            r"--kv-cache-dtype fp8: .* capability 8\.6, and 8\.9 is needed",
        ),
        ({"deterministic": True}, 2, (9, 0), "--deterministic: .* leave --tensor-parallel out"),
    ],
)
def test_what_a_gpu_cannot_do_is_told_by_the_flag(
    asked: dict[str, Any], ranks: int, capability: tuple[int, int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, 2, capability)
    setup = Setup("m", ranks=ranks, config=EngineConfig(**asked))
    with pytest.raises(UnusableModel, match=why):
        devices.check(setup, torch.device("cuda"))
    devices.check(Setup("m", ranks=ranks), torch.device("cuda"))


def test_a_processor_promises_no_bits() -> None:
    with pytest.raises(UnusableModel, match=r"--deterministic: .* take a GPU"):
        devices.check(Setup("m", config=EngineConfig(deterministic=True)), torch.device("cpu"))
    devices.check(Setup("m", config=EngineConfig(kv_cache_dtype="fp8")), torch.device("cpu"))


def test_a_processor_has_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 7)
    assert devices.available_memory(torch.device("cpu")) == 7


def test_what_is_left_open_is_as_the_device_likes_it() -> None:
    setup = Setup("m", config=EngineConfig(max_len=99))
    cpu, gpu = setup.suited(gpu=False), setup.suited(gpu=True)
    assert (cpu.kv_memory, cpu.config) == (0.25, setup.config)
    assert (gpu.kv_memory, gpu.config.max_seqs, gpu.config.step_tokens) == (0.9, 256, 8192)
    assert gpu.config.overlap
    assert gpu.config.max_len == 99
    asked = replace(setup, kv_memory=1 << 30, max_seqs=3)
    assert {(one.kv_memory, one.config.max_seqs) for one in (asked.suited(gpu=False), asked.suited(gpu=True))} == {
        (1 << 30, 3)
    }  # fmt: skip
