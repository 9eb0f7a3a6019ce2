"""What every test may ask for."""

import os

import pytest
from hypothesis import settings

pytest_plugins = ["tests.redis_server"]

settings.register_profile("house", deadline=None)  # a machine that is busy makes no property wrong
settings.load_profile("house")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of two processes would get in each other's way


@pytest.hookimpl(tryfirst=True)  # before the plugin that reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where two processes share the tests, each file is one's alone, and so is all that needs the stack."""
    for item in items:
        needs_stack = "stack" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("stack" if needs_stack else str(item.path)))
