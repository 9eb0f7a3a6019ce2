"""A client that reads slowly gets fewer events, and all of the text."""

import asyncio
import json
from typing import Any

from local_backend.config import BUNDLED
from local_backend.preparation import Preparation
from local_backend.server import Server
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
