"""The engine: a socket of its own, or an address to attach to."""

from typing import Any, get_args, get_type_hints

import pytest

from gateway.core.address import Origin
from gateway.providers.local import FLAGS, Engine, Local
from local_backend.flags import build_parser

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


def test_flags_travel_by_the_engines_own_names() -> None:
    spec = Engine(model="a/b", download=True, device="cuda", quantize="int8", max_len=99, kv_memory=0.5)
    assert spec.flags == (
        "--download", "--device", "cuda", "--quantize", "int8", "--max-len", "99", "--kv-memory", "0.5"
    )  # fmt: skip
    assert Engine(model="m", download=False).flags == ()


def test_the_engine_knows_every_flag_and_word_of_one() -> None:
    kinds = get_type_hints(Engine)
    for name in FLAGS:
        words = [one for kind in get_args(kinds[name]) for one in get_args(kind)]
        switches = {key: [True] for key in ("download", "deterministic", "enforce_eager")}
        others: dict[str, list[Any]] = {**switches, "kv_memory": ["2GiB", 1.0]}
        for value in words or others.get(name, [1]):
            flags = Engine(model="m", **{name: value}).flags
            assert getattr(build_parser().parse_args(["--model", "m", *flags]), name) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_len", 0), ("max_seqs", 0), ("speculate", 65), ("threads", -1),
     ("kv_memory", "2GB"), ("kv_memory", 2.0), ("kv_memory", 0.0)],
)  # fmt: skip
def test_a_flag_that_the_engine_would_not_take_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        LOCAL.facts(Engine(model="m", address="unix:/s", **{name: value}))


def test_an_engine_elsewhere_has_its_own_flags() -> None:
    with pytest.raises(ValueError, match=r"^quantize: is for an engine that the gateway starts"):
        LOCAL.facts(Engine(address="http://gpu", quantize="int8"))
