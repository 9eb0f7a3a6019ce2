"""A head that comes again: found by its bytes alone, and never where the parser would read anything else."""

import asyncio
import random
from typing import Any

import pytest

from gateway.core.head import Head
from gateway.edge.asgi import Receive, Scope, Send
from gateway.edge.connection import LEARNS, MOST_PIPELINED
from gateway.edge.repeats import Known, known
from gateway.edge.sanity import Sanity
from tests.gateway.edge.test_connection import answer, client, telling

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-A: b\r\n\r\n"
HEADERS = [(b"host", b"x"), (b"content-length", b"5"), (b"x-a", b"b")]


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


def seen(*, sane: bool = True) -> Known:
    scope: dict[str, Any] = {"type": "http", "headers": HEADERS}
    found = known(request(b"first"), scope)
    assert found is not None
    if sane:
        scope["gateway.head"] = Head(HEADERS)
    scope["gateway.task"] = "that of the first request"
    return found


def test_the_same_head_gives_the_same_scope_and_nothing_that_the_first_request_left_in_it() -> None:
    again = seen().again(request(b"other"))
    assert again == ({"type": "http", "headers": HEADERS, "gateway.head": dict(HEADERS)}, b"other")


def test_another_length_is_told_in_the_head_and_in_the_headers() -> None:
    again = seen().again(request(b"quite another"))
    assert again is not None
    scope, body = again
    assert body == b"quite another"
    assert scope["headers"] == [(b"host", b"x"), (b"content-length", b"13"), (b"x-a", b"b")]
    assert scope["gateway.head"] == dict(scope["headers"])
    assert seen().scope["headers"] == HEADERS


@pytest.mark.parametrize(
    "data",
    [
        request(b"first")[:-1],
        request(b"first") + b"!",
        request(b"first") * 2,
        request(b"first", HEAD.replace(b"X-A: b", b"X-A: c")),
        request(b"first", HEAD.replace(b"Host: x", b"Host: y")),
        request(b"first", HEAD.replace(b"%d", b"+%d")),
        request(b"first", HEAD.replace(b"%d", b"%d, 5")),
        HEAD.replace(b"%d", b"") + b"first",
        HEAD[:-4] % 5,
        b"",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    assert seen().again(data) is None


def test_a_head_that_the_door_refused_is_not_known() -> None:
    assert seen(sane=False).again(request(b"first")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\npart",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\naGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na",
    ],
)
def test_only_a_whole_request_of_one_length_is_remembered(data: bytes) -> None:
    assert known(data, {"headers": []}) is None


def test_a_packed_body_is_the_parsers_to_read() -> None:
    assert known(request(b"first"), {"headers": [*HEADERS, (b"content-encoding", b"gzip")]}) is None


def told(scope: Scope, body: bytes) -> bytes:
    assert scope.get("gateway.body", body) == body
    return repr((scope["method"], scope["path"], sorted(scope["gateway.head"].items()), body)).encode()


@pytest.mark.parametrize("seed", range(16))
async def test_however_the_bytes_of_alike_requests_are_cut_each_is_answered_as_if_it_came_alone(
    seed: int,
) -> None:
    dice = random.Random(seed)
    heads = [HEAD, HEAD.replace(b"X-A: b", b"X-A: c"), HEAD.replace(b"/v1/x", b"/v1/y")]
    bodies = [b"", b"a", request(b"within"), b"\r\n\r\n", b"7" * 40]
    asked = [(dice.choice(heads[: 1 + seed % 3]), dice.choice(bodies)) for _ in range(MOST_PIPELINED)]
    raw = b"".join(request(body, head) for head, body in asked)
    async with client(Sanity(telling(told))) as (reader, writer):
        sending = asyncio.ensure_future(_send(writer, raw, dice))
        answers = [(await answer(reader))[1] for _ in asked]
        await sending
    expected = []
    for head, body in asked:
        lines = (head % len(body)).split(b"\r\n")
        pairs = [(name.lower(), value) for name, value in (line.split(b": ") for line in lines[1:-2])]
        expected.append(repr(("POST", lines[0].split()[1].decode(), sorted(pairs), body)).encode())
    assert answers == expected


async def _send(writer: asyncio.StreamWriter, raw: bytes, dice: random.Random) -> None:
    """In pieces of all sizes, many of them a whole request."""
    sizes = [len(request(b"")), len(request(b"a")), 1, 300]
    while raw:
        size = dice.choice(sizes)
        writer.write(raw[:size])
        await writer.drain()
        await asyncio.sleep(0)
        raw = raw[size:]


async def test_the_body_of_a_request_that_is_known_need_not_be_awaited() -> None:
    async with client(Sanity(telling(lambda scope, _: scope.get("gateway.body", b"?")))) as (reader, writer):
        told = []
        for body in (b"one", b"two", b"three", b""):
            writer.write(request(body))
            told.append((await answer(reader))[1])
    assert told == [b"?", b"two", b"three", b""]


async def test_a_client_that_never_says_the_same_is_not_remembered_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[bytes] = []

    def counting(data: bytes, scope: Scope) -> Known | None:
        looked.append(data)
        return known(data, scope)

    monkeypatch.setattr("gateway.edge.connection.known", counting)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await telling(lambda _, body: body)(scope, receive, send)

    async with client(app) as (reader, writer):
        for number in range(9):
            writer.write(request(b"a", HEAD.replace(b"X-A: b", b"X-A: " + b"%d" % number)))
            await answer(reader)
    assert len(looked) == LEARNS
