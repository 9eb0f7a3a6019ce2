"""What every test may ask for."""

import atexit
import gc
import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.redis_server", "tests.postgres_server"]
WITHOUT_STACK = {"tests/deploy/test_wheel.py", "tests/deploy/test_image.py"}

settings.register_profile("house", deadline=None)  # a machine that is busy makes no property wrong
settings.load_profile("house")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of two processes would get in each other's way


class ByFile(LoadScopeScheduling):
    """Each file is one process's alone, and so are all files that need the stack: it takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "the stack" if file.startswith("tests/deploy/") and file not in WITHOUT_STACK else file


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What all files import lives to the end: no look for garbage goes through it before, which takes half a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # then all is taken down in its order


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)
