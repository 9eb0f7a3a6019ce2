"""One running stack for the tests of this folder: it takes some seconds to start."""

from collections.abc import Iterator

import pytest

from tests.deploy.stack import Stack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, engine, gateway and Prometheus, each healthy by its own check. Few calls may be in flight at once,
    so that a test can have too many of them."""
    pytest.importorskip("torch", reason="the local engine needs torch: `make test` installs it")
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start("redis")
        stack.start("local-backend")
        stack.start("gateway", GATEWAY_MAX_IN_FLIGHT="20")
        stack.start("prometheus")
        yield stack
    finally:
        stack.close()
