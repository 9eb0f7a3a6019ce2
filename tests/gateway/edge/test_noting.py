"""No byte of a minted id goes out before the id is remembered."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Attempt, Call, Caller, Exchange, Reply, Target
from gateway.edge.noting import noted
from gateway.edge.ownership import Ownership
from gateway.state.owners import Owner
from gateway.wire.raw import LOOK
from tests.running import gateway, policies
from tests.scripted import Provider, answer, event, stream

JSON = [(b"content-type", b"application/json; charset=utf-8")]


class Book:
    """Owners in a dict."""

    def __init__(self) -> None:
        self.known: dict[str, Owner] = {}

    async def remember(self, ids: Sequence[str], owner: Owner, kind: str, charged: int | None = None) -> None:
        self.known |= dict.fromkeys(ids, owner)

    async def among(self, ids: Sequence[str]) -> dict[str, Owner]:
        return {one: self.known[one] for one in ids if one in self.known}

    async def forget(self, id: str) -> None:
        del self.known[id]

    async def settle(self, ids: Sequence[str]) -> int | None:
        return None


def exchange() -> Exchange:
    call = Call("responses", "openai.raw", "POST", "/responses", b"", {}, "", stream=False)
    one = Exchange("0", call, Caller("key", "red", "", {}), "0", 0.0, 0.0)
    one.attempts.append(Attempt(Target("p/m", "p", "openai", "openai.chat", "m", None), 0.0))
    return one


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def go(reply: Reply) -> tuple[list[tuple[bytes, list[str]]], Book]:
    """Each piece that went out, and the ids that were known by then."""
    book = Book()
    reply = await noted(reply, Ownership(book), exchange())
    if isinstance(reply.body, bytes):
        return [(reply.body, sorted(book.known))], book
    return [(piece, sorted(book.known)) async for piece in reply.body], book


async def test_a_json_answer_waits_until_its_ids_are_remembered() -> None:
    body = orjson.dumps({"object": "x", "id": "resp_1"})
    out, book = await go(Reply(200, JSON, pieces(body[:9], body[9:])))
    assert out == [(body, ["resp_1"])]
    assert book.known["resp_1"] == Owner("red", "p")


async def test_a_whole_answer_does_too() -> None:
    assert (await go(Reply(200, JSON, b'{"id": "a"}')))[0] == [(b'{"id": "a"}', ["a"])]


async def test_of_a_large_answer_the_beginning_is_held() -> None:
    body = orjson.dumps({"id": "resp_1", "output": "A" * (2 * LOOK)})
    out, _ = await go(Reply(200, JSON, pieces(*(body[at : at + 65536] for at in range(0, len(body), 65536)))))
    assert b"".join(piece for piece, _ in out) == body
    assert len(out) > 10
    assert out[0][1] == ["resp_1"]


async def test_events_pass_one_by_one_with_their_ids_known() -> None:
    one = b'data: {"response":{"id":"r"}}\n\n'
    two = b'data: {"item":{"id":"m"}}\n\n'
    out, _ = await go(Reply(200, [], pieces(one, one, two, b": x\n\n"), b": keep-alive\n\n"))
    assert out == [(one, ["r"]), (one, ["r"]), (two, ["m", "r"]), (b": x\n\n", ["m", "r"])]


@pytest.mark.parametrize(
    ("status", "headers"), [(404, JSON), (200, [(b"content-type", b"audio/mpeg")]), (200, [])]
)
async def test_other_answers_pass_unread(status: int, headers: Any) -> None:
    out, _ = await go(Reply(status, headers, pieces(b'{"id":', b'"a"}')))
    assert out == [(b'{"id":', []), (b'"a"}', [])]


async def test_an_empty_answer_is_none() -> None:
    assert (await go(Reply(204, JSON, pieces())))[0] == []


# While the database is away

RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
ASKED = {"model": "smart", "input": "hi"}


async def away(
    folder: Path, provider: Provider, path: str, body: dict[str, Any]
) -> tuple[int, str, dict[str, int]]:
    """Status and body of a call whose ids can be noted nowhere, after one that was well, and the outcomes of both."""
    text = policies(provider.url).replace("type: compatible", "type: openai, api_key: k")
    async with gateway(folder, text) as running, running.client() as client:
        await client.post("/v1/responses", json=ASKED)
        with closing(sqlite3.connect(folder / "data" / "gatehouse.db")) as database:
            database.execute("DROP TABLE owners")
        came = await client.post(path, json=body)
        rows = (await running.usage(by="outcome"))["rows"]
        return came.status_code, came.text, {row["outcome"]: row["calls"] for row in rows}


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_whose_ids_cannot_be_noted_is_an_answer_all_the_same(
    tmp_path: Path, streams: bool
) -> None:
    told = stream(event(type="response.completed", response={**RESPONSE, "id": "resp_2"}))
    second = told if streams else answer({**RESPONSE, "id": "resp_2"})
    async with Provider([answer(RESPONSE), second]) as provider:
        status, text, ends = await away(tmp_path, provider, "/v1/responses", ASKED | {"stream": streams})
    assert (status, ends) == (200, {"ok": 2})
    assert "resp_2" in text
    assert "error" not in text


async def test_an_object_that_cannot_be_noted_is_a_503_that_tells_no_address(tmp_path: Path) -> None:
    async with Provider([answer(RESPONSE), answer({"id": "conv_1", "object": "conversation"})]) as provider:
        status, text, ends = await away(tmp_path, provider, "/v1/conversations", {})
    assert (status, ends) == (503, {"ok": 1, "overloaded": 1})
    assert '"database_unavailable"' in text
    assert "owners" not in text
