"""Requests that ask for another protocol: which is meant, and how their bodies are read all the same."""

import pytest

from gateway.edge.upgrade import asks_for_websocket, head_of_body


@pytest.mark.parametrize(
    ("method", "upgrade", "framing", "is_one"),
    [
        ("GET", b"WebSocket ", (b"x-a", b"1"), True),
        ("GET", b"websocket", (b"content-length", b" 0"), True),
        ("GET", b"websocket", (b"content-length", b"1"), False),
        ("GET", b"websocket", (b"transfer-encoding", b"chunked"), False),
        ("GET", b"h2c", (b"x-a", b"1"), False),
        ("POST", b"websocket", (b"x-a", b"1"), False),
    ],
)
def test_only_a_get_without_a_body_asks_for_a_websocket(
    method: str, upgrade: bytes, framing: tuple[bytes, bytes], is_one: bool
) -> None:
    headers = [(b"host", b"x"), (b"upgrade", upgrade), framing]
    assert asks_for_websocket({"method": method, "headers": headers}) is is_one


def test_a_body_is_framed_as_its_head_said() -> None:
    headers = [(b"host", b"x"), (b"content-length", b"5"), (b"upgrade", b"h2c")]
    assert head_of_body({"headers": headers}) == b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n"
