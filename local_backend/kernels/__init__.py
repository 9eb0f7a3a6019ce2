"""What a GPU computes instead of torch's single operations: kernels in Triton, each beside the plain code that it
must agree with. Triton is imported by the modules in here alone, and those only where `ready` says so."""

from functools import cache
from importlib.util import find_spec

import torch

# Tests set it, to run kernels on the CPU by Triton's interpreter.
everywhere = False


def ready(device: torch.device) -> bool:
    """Whether what lies on this device is computed by kernels."""
    return (everywhere or device.type == "cuda") and _installed()


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
