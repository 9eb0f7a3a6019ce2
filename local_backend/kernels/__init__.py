"""What a GPU computes instead of torch's single operations: kernels in Triton, each beside the plain code that it
must agree with. Triton is imported by the modules in here alone, and those only where `ready` says so."""

from functools import cache
from importlib.util import find_spec

import torch

# None: on GPUs. Tests and measurements set it: True, on the CPU too, by Triton's interpreter; False, nowhere.
wanted: bool | None = None


def ready(device: torch.device) -> bool:
    """Whether what lies on this device is computed by kernels."""
    return (device.type == "cuda" if wanted is None else wanted) and _installed()


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
