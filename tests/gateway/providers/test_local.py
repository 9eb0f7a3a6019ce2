"""The engine: a socket of its own, or an address to attach to."""

import pytest

from gateway.core.address import Origin
from gateway.providers.local import Engine, Local

LOCAL = Local()


def test_an_engine_that_the_gateway_starts_is_asked_over_its_socket() -> None:
    place = LOCAL.facts(Engine(model="bundled", address="unix:/run/engine.sock", params={"seed": 1}))
    assert (place.origin, place.prefix) == (Origin("unix", "localhost", 0, "/run/engine.sock"), "/v1")
    assert place.heads == (b"host: localhost\r\naccept-encoding: identity\r\n",)
    assert LOCAL.params(place) == {"seed": 1}


@pytest.mark.parametrize(
    "address", ["http://gpu:8000", "http://gpu:8000/", "http://gpu:8000/v1", "http://gpu:8000/v1/"]
)
def test_an_engine_elsewhere_is_found_with_and_without_the_version(address: str) -> None:
    place = LOCAL.facts(Engine(address=address, headers={"X-Token": "t"}))
    assert (place.origin, place.prefix) == (Origin("http", "gpu", 8000), "/v1")
    assert place.heads[0].endswith(b"x-token: t\r\n")


@pytest.mark.parametrize(
    "address", ["", "unix:", "gpu:8000", "ftp://gpu", "http://user@gpu", "http://gpu:99999"]
)
def test_an_address_that_is_none_is_told_by_its_own_field(address: str) -> None:
    with pytest.raises(ValueError, match=r"^address: "):
        LOCAL.facts(Engine(address=address))


def test_an_engine_needs_no_key() -> None:
    assert LOCAL.enabled(Engine())


def test_headers_stay_out_of_what_is_printed() -> None:
    assert "secret" not in repr(Engine(headers={"x-token": "secret"}))
