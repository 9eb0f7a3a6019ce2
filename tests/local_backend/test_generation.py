"""A client that reads slowly gets fewer events, and all of the text; one whose answer fails is told so."""

import asyncio
import json
from typing import Any, cast

import pytest

from local_backend import trial
from local_backend.config import BUNDLED
from local_backend.detok import Detokenizer
from local_backend.preparation import Preparation
from local_backend.server import Server
from local_backend.tokenizer import Tokenizer
from local_backend.trial import Trial
from local_backend.voice import Voice
from tests.local_backend.test_client import kept, until

TOKENS = 40
SCOPE = {"type": "http", "method": "POST", "path": "/v1/completions"}


class Reader:
    """One that takes nothing more after its first event, until told."""

    def __init__(self) -> None:
        self.behind, self.goes_on = asyncio.Event(), asyncio.Event()
        self.blocks: list[bytes] = []
        asked = {"model": "puppet", "prompt": [5], "max_tokens": TOKENS, "stream": True}
        self._body = json.dumps({**asked, "stream_options": {"include_usage": True}, "logprobs": 0}).encode()

    async def receive(self) -> Any:
        if self._body:
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.blocks.append(message.get("body", b""))
        if b'"text"' in self.blocks[-1]:
            self.behind.set()
            await self.goes_on.wait()


async def test_what_comes_while_a_client_is_behind_is_one_event() -> None:
    async with kept() as keeper:
        await keeper.is_ready()
        reader = Reader()
        app = Server(keeper.client, Preparation.load(BUNDLED), ["puppet"], 1.0)
        call = asyncio.ensure_future(app(SCOPE, reader.receive, reader.send))
        await reader.behind.wait()
        await until(lambda: not keeper.client._streams)  # all of the answer has come
        reader.goes_on.set()
        await call
    events = [
        json.loads(line[6:]) for line in b"".join(reader.blocks).split(b"\n\n") if line.startswith(b"data: {")
    ]
    assert sum(bool(event["choices"] and event["choices"][0]["text"]) for event in events) <= 3
    scored = [event["choices"][0]["logprobs"] for event in events if event["choices"]]
    tokens = [token for one in scored if one for token in one["tokens"]]
    text = "".join(event["choices"][0]["text"] for event in events if event["choices"])
    assert len(tokens) == events[-1]["usage"]["completion_tokens"] == TOKENS
    assert text == "".join(tokens)
    assert [event["choices"][0]["finish_reason"] for event in events if event["choices"]][-1] == "length"


class Caller:
    """One that asks and takes what comes."""

    def __init__(self, **asked: object) -> None:
        self.body = json.dumps({"model": "puppet", "prompt": [5], "max_tokens": 5, **asked}).encode()
        self.status, self.told, self.left = 0, b"", asyncio.Event()

    async def receive(self) -> Any:
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.told += message.get("body", b"")


class Judge:
    """A trial of grammars that comes to no end."""

    def __init__(self) -> None:
        self.asked, self.given_up = asyncio.Event(), asyncio.Event()

    async def fault(self, grammar: str) -> str:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()
        return grammar


@pytest.mark.parametrize(("stream", "good", "status"), [(False, 0, 500), (True, 0, 500), (True, 2, 200)])
async def test_what_nobody_foresaw_is_told_and_logged(
    stream: bool, good: int, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fed = 0

    def feed(self: Detokenizer, ids: object) -> str:
        nonlocal fed
        fed += 1
        if fed > good:
            raise ZeroDivisionError("a slip")
        return "x"

    monkeypatch.setattr(Detokenizer, "feed", feed)
    async with kept() as keeper:
        await keeper.is_ready()
        caller = Caller(stream=stream)
        await Server(keeper.client, Preparation.load(BUNDLED), ["puppet"], 1.0)(
            SCOPE, caller.receive, caller.send
        )
    error = json.loads(caller.told.rstrip().split(b"data: ")[-1])["error"]
    assert (caller.status, error["type"], error["code"]) == (status, "server_error", "internal_error")
    assert "a slip" in caplog.text
    assert "a slip" not in error["message"]


async def test_a_client_that_leaves_while_its_grammar_is_tried_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "AVAILABLE", True)
    judge = Judge()
    tokenizer = Tokenizer(BUNDLED)
    leaver = Caller(structured_outputs={"regex": "a"})
    async with kept() as keeper:
        await keeper.is_ready()
        app = Server(
            keeper.client, Preparation(tokenizer, None, Voice(), cast(Trial, judge)), ["puppet"], 1.0
        )
        call = asyncio.ensure_future(app(SCOPE, leaver.receive, leaver.send))
        await judge.asked.wait()
        leaver.left.set()
        await asyncio.wait_for(judge.given_up.wait(), 5)
        await call
    assert not leaver.told
