"""Kernels run on a GPU where there is one, else by Triton's interpreter: asked for before Triton is imported."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

INSTALLED = find_spec("torch") is not None and find_spec("triton") is not None


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    from triton import language
    from triton.runtime import interpreter

    plain = interpreter._patch_lang_tensor

    def mended(tensor: Any, scope: Any) -> None:
        """Triton 3.6 makes numbers of arrays with one element, which numpy 2.4 refuses: no loop would have bounds."""
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = mended
    convert = interpreter._convert_float

    def rounded(data: Any, given: Any, wanted: Any, mode: Any) -> Any:
        """Triton 3.6 loses the carry where it rounds to fp8 (7.9 becomes 4) and cuts off its smallest numbers."""
        if wanted != language.float8e4nv:
            return convert(data, given, wanted, mode)
        return torch.from_numpy(data.astype("float32")).to(torch.float8_e4m3fn).view(torch.uint8).numpy()

    interpreter._convert_float = rounded
    patch = interpreter._patch_lang

    def once(kernel: Any) -> Any:
        """What a kernel calls finds the language patched already: to look again takes a fifth of all time."""
        known = [one for one in (language, language.core) if one in kernel.__globals__.values()]
        if any(language.core.is_builtin(one.load) for one in known):
            return patch(kernel)
        return interpreter._LangPatchScope()

    interpreter._patch_lang = once
    # No sum of these small shapes overflows, and to look takes another quarter.
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)


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
