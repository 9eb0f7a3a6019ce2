import gzip

import pytest

from gateway.wire.reason import LONGEST, is_framed, is_json, reason, title, unframed


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


@pytest.mark.parametrize(
    "around",
    [
        b"\xef\xbb\xbf%b",
        b"data: %b\n\n",
        b"\xef\xbb\xbfdata:%b",
        b"event: error\r\ndata: %b\r\n\r\ndata: [DONE]\r\n\r\n",
        b": keep-alive\n\ndata:\n\ndata: %b",
    ],
)
def test_what_stands_around_an_error_is_taken_off(around: bytes) -> None:
    framed = around % b'{"error": {"message": "no"}}'
    assert is_framed(framed)
    assert unframed(framed) == b'{"error": {"message": "no"}}'


@pytest.mark.parametrize("body", [b'{"error": "data: {}"}', b"<html>", b"", b"no\n\ndata: x"])
def test_what_is_not_framed_stays_as_it_is(body: bytes) -> None:
    assert not is_framed(body)
    assert unframed(body) == body


def test_a_frame_without_json_holds_a_text() -> None:
    assert unframed(b"data: out of order\n\n") == b"data: out of order\n\n"
    assert unframed(b"\xef\xbb\xbfout of order") == b"out of order"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html><head><TITLE>502 Bad\r\n Gateway</TITLE>", "502 Bad Gateway"),
        (b'<title lang="en">a &amp; b</title>', "a &amp; b"),
        (b"<title>\x1b[31m</title>", ""),
        (b"<title></title>", ""),
        (b"<html>no</html>", ""),
        (b"no", ""),
    ],
)
def test_a_page_has_a_title(body: bytes, told: str) -> None:
    assert title(body) == told
