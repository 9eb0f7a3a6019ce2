"""Kernels that begin before the ones ahead of them have ended (programmatic dependent launch, compute capability 9.0
on): they are at their places when what they wait for is written. Fetching weights into the cache meanwhile was tried,
and made steps slower."""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from triton.knobs import runtime
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_LEAST = (9, 0)


@cache
def early(device: torch.device) -> dict[str, Any]:
    """How a kernel is launched there: every program of one with EARLY must come to `wait`, or what follows it may begin
    too soon."""
    able = (
        device.type == "cuda" and not runtime.interpret and torch.cuda.get_device_capability(device) >= _LEAST
    )
    return {"EARLY": True, "launch_pdl": True} if able else {"EARLY": False}


@triton.jit
def wait(EARLY: tl.constexpr):
    """For the kernels ahead, and all they write; the one behind may begin from here on, and waits for this one."""
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
