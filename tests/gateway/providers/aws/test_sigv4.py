"""Signatures, against those that Amazon's own library makes."""

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.address import Origin, WireRequest
from gateway.providers.aws.sigv4 import Keys, signed

NOW = 1764064800.5  # 2025-11-25T10:00:00Z
HOST = "bedrock-runtime.eu-central-1.amazonaws.com"
ORIGIN = Origin("https", HOST, 443)


def ours(keys: Keys, method: str, target: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {target} HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: identity\r\n{lines}"
    wire = WireRequest(ORIGIN, head.encode("latin-1"), body, len(body))
    made = signed(keys, wire, "eu-central-1", "bedrock", NOW).decode()
    assert made.endswith("\r\n")
    return dict(line.split(": ", 1) for line in made.rstrip("\r\n").split("\r\n"))


def theirs(keys: Keys, method: str, target: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    request = AWSRequest(method, f"https://{HOST}{target}", headers=headers, data=body)
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(NOW, UTC)):
        SigV4Auth(Credentials(*keys), "bedrock", "eu-central-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items() if name.lower() not in headers}


KEYS = st.builds(
    Keys, st.just("AKIDEXAMPLE"), st.text("abc/+=XYZ", min_size=1), st.sampled_from(["", "FwoG//tok=="])
)
PARTS = st.sampled_from(["model", "a.b-c_d~e", "x%3A0", "arn%3Aaws%2Fy", "converse"])
PATHS = st.lists(PARTS, min_size=1).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.sampled_from(["", "?b=2&a=1", "?a=%2F&a=%20x", "?flag="])


@given(
    keys=KEYS, path=PATHS, query=QUERIES, body=st.binary(max_size=40), method=st.sampled_from(["POST", "GET"])
)
def test_a_signature_is_the_one_that_amazons_library_makes(
    keys: Keys, path: str, query: str, body: bytes, method: str
) -> None:
    asked: tuple[Any, ...] = (keys, method, path + query, body, {"content-type": "application/json"})
    made = ours(*asked)
    assert made == theirs(*asked)
    assert made["x-amz-date"] == "20251125T100000Z"


def test_amazons_own_headers_are_signed_and_those_that_change_on_the_way_are_not() -> None:
    def made_of(**headers: str) -> dict[str, str]:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return ours(Keys("A", "s"), "POST", "/model/x/invoke", b"{}", told)

    made = made_of(x_amz_target="  two   blanks ")
    assert "SignedHeaders=host;x-amz-date;x-amz-target," in made["authorization"]
    assert made == made_of(x_amz_target="two blanks", traceparent="00-1", user_agent="u")


def test_a_flag_without_a_value_is_signed_as_an_empty_one() -> None:
    keys = Keys("A", "s")
    assert ours(keys, "GET", "/?flag", b"", {}) == ours(keys, "GET", "/?flag=", b"", {})


@pytest.mark.parametrize("now", [0.0, 4102444800.0])
def test_the_wall_clock_is_the_callers(now: float) -> None:
    wire = WireRequest(ORIGIN, b"GET / HTTP/1.1\r\nhost: h\r\n", b"", 0)
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    assert f"x-amz-date: {moment}\r\n".encode() in signed(Keys("A", "s"), wire, "r", "s", now)
