"""On what a model is computed, and what memory there is: this machine's processor, or a GPU of NVIDIA's."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from local_backend import machine
from local_backend.config import UnusableModel
from local_backend.options import Setup

LEAST = (8, 0)  # compute capability: the first with products of bf16, which the kernels are made for
FP8 = (8, 9)  # the first that knows such numbers


def take(asked: str, ranks: int = 1, rank: int = 0) -> torch.device:
    """cpu, cuda, or auto for a GPU where one serves; each of several ranks has one of its own, which becomes torch's
    current one. Raises UnusableModel where the GPUs that are asked for are not there."""
    why = _unfit(ranks, rank) if asked != "cpu" else "it is not asked for"
    if why and asked == "cuda":
        raise UnusableModel(f"--device cuda: {why}; take --device cpu, or leave it out")
    if why:
        return torch.device("cpu")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device


def available_memory(device: torch.device) -> int:
    """Bytes that are left for weights and cache."""
    if device.type == "cpu":
        return machine.available_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return free


def check(setup: Setup, device: torch.device) -> None:
    """Raises UnusableModel for what is asked for and this device has not."""
    config = setup.config
    if device.type == "cuda" and config.kv_cache_dtype == "fp8":
        found = torch.cuda.get_device_capability(device)
        if found < FP8:
            raise UnusableModel(
                f"--kv-cache-dtype fp8: the GPU has compute capability {found[0]}.{found[1]}, and {FP8[0]}.{FP8[1]} is"
                " needed; leave it out"
            )
    if config.deterministic and device.type == "cpu":
        raise UnusableModel(
            "--deterministic: on a processor the order of sums is torch's, and follows the batch; take a GPU, or leave"
            " it out"
        )
    if config.deterministic and setup.ranks > 1:
        raise UnusableModel(
            "--deterministic: the sums of several ranks have no one order; leave --tensor-parallel out"
        )


def send(
    values: list[int] | list[float] | npt.NDArray[np.generic],
    device: torch.device,
    kind: torch.dtype | None = None,
) -> Tensor:
    """A copy on the device, for which nobody waits: a GPU takes it once it has done what it was told before."""
    return held(torch.tensor(values, dtype=kind), device).to(device, non_blocking=True)


def held(values: Tensor | npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """The same where the device can fetch it from by itself."""
    found = values if isinstance(values, Tensor) else torch.from_numpy(values)
    return found if device.type == "cpu" else found.pin_memory()


def _unfit(ranks: int, rank: int) -> str:
    """Why no GPU serves this rank; empty where one does."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no GPU, or no driver that fits it"
    if ranks > (count := torch.cuda.device_count()):
        return f"{ranks} ranks ask for a GPU each, and there {'is' if count == 1 else 'are'} {count}"
    found = torch.cuda.get_device_capability(rank)
    if found < LEAST:
        return f"the GPU has compute capability {found[0]}.{found[1]}, and {LEAST[0]}.{LEAST[1]} is needed"
    return ""
