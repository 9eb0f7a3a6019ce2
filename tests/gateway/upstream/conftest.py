"""The client is built for uvloop, so its tests run on it."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from gateway.upstream.client import Upstream


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    client = Upstream()
    yield client
    await client.aclose()
