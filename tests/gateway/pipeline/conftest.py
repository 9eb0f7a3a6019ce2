"""A provider for the tests of the corridor."""

from collections.abc import AsyncIterator

import pytest

from tests.scripted import Provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as provider:
        yield provider
