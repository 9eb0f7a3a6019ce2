import gzip

import pytest

from gateway.wire.reason import LONGEST, is_json, reason


@pytest.mark.parametrize("body", [b'{"error": 1}', b'[{"error": {}}]', b'"no"', b'{"a": NaN}'])
def test_what_an_api_says_is_json(body: bytes) -> None:
    assert is_json(body)


@pytest.mark.parametrize("body", [b"", b"no", b"404", b"null", b"<html></html>", b'{"error": '])
def test_what_others_say_is_not(body: bytes) -> None:
    assert not is_json(body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"upstream connect error", "upstream connect error"),
        (b" too\r\n many \n", "too many"),
        ("für".encode("latin-1"), "f\N{REPLACEMENT CHARACTER}r"),
        (b"a < b", "a < b"),
        (b"x" * 5000, "x" * LONGEST),
    ],
)
def test_plain_text_is_a_reason(body: bytes, told: str) -> None:
    assert reason(body) == told


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"<html>10.0.0.7</html>",
        b"<!DOCTYPE html>",
        b"<?xml?>",
        b"no <b>10.0.0.7</b>",
        gzip.compress(b"a", mtime=0),
    ],
)
def test_pages_and_what_is_no_text_are_none(body: bytes) -> None:
    assert reason(body) == ""
