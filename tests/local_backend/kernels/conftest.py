"""Kernels run on a GPU where there is one, else by Triton's interpreter: asked for before Triton is imported."""

import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

INSTALLED = find_spec("torch") is not None and find_spec("triton") is not None


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    from tests.local_backend.kernels.interpreter import prepare

    prepare()


if INSTALLED:
    import torch

    if not torch.cuda.is_available():
        _interpret()


@pytest.fixture
def device() -> str:
    return "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


@pytest.fixture(autouse=True)
def _infinity_is_a_number() -> Iterator[None]:
    """As on a GPU: what is too large for exp is infinite there, and padding computes with whatever its memory held,
    without a warning."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of steps in other threads, too
        yield
