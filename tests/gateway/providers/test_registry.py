"""What every provider of the registry promises."""

import pytest

from gateway.core.failure import Failure
from gateway.providers.registry import PROVIDERS
from gateway.wire.registry import DIALECTS


def test_the_registry_is_sorted() -> None:
    assert list(PROVIDERS) == sorted(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_speaks_dialects_that_there_are_and_knows_a_refusal(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.dialects
    assert provider.dialects <= DIALECTS.keys()
    assert provider.classify(429, b"") is Failure.THROTTLED
    assert provider.cap_name in ("max_tokens", "max_completion_tokens")
