"""An answer goes on where its prompt ends: put together they read as one text, also where a vocabulary's words begin
with their space."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend.client import EngineClient
from local_backend.options import EngineConfig, Setup
from local_backend.preparation import Preparation
from local_backend.server import Server
from local_backend.template import ChatTemplate
from local_backend.tokenizer import Tokenizer
from local_backend.trial import Trial
from local_backend.voice import Voice
from tests.local_backend.test_client import until
from tests.local_backend.test_generation import Caller
from tests.local_backend.test_preparation import PLAIN
from tests.shared import shared

BEGUN, GOES_ON = "Once upon", " a time, there"


@pytest.fixture
async def app() -> AsyncIterator[Server]:
    folder = shared("models/stories260K")
    engine = EngineClient(Setup(str(folder), kv_memory=1 << 24, config=EngineConfig()), print)
    running = asyncio.ensure_future(engine.run())
    await until(lambda: engine.state == "ready", 60)
    template = ChatTemplate("{{ bos_token }}" + PLAIN, {"bos_token": "<s>"})
    yield Server(engine, Preparation(Tokenizer(folder), template, Voice(), Trial(folder)), ["stories"], 0.0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def choice(app: Server, path: str, **asked: Any) -> dict[str, Any]:
    caller = Caller(max_tokens=4, temperature=0, **asked)
    await app({"type": "http", "method": "POST", "path": path}, caller.receive, caller.send)
    found: dict[str, Any] = json.loads(caller.told)["choices"][0]
    return found


async def test_the_space_before_its_first_word_is_part_of_an_answer_that_goes_on(app: Server) -> None:
    found = await choice(app, "/v1/completions", prompt=BEGUN, logprobs=0)
    assert found["text"] == GOES_ON == "".join(found["logprobs"]["tokens"])
    assert found["logprobs"]["text_offset"] == [0, 2, 7, 8]
    messages = [{"role": "assistant", "content": BEGUN}]
    found = await choice(
        app, "/v1/chat/completions", prompt=None, messages=messages, continue_final_message=True
    )
    assert found["message"]["content"] == GOES_ON
    begins = await choice(app, "/v1/completions", prompt="")
    assert begins["text"].startswith("Once")


async def test_a_prompt_is_echoed_as_it_came(app: Server) -> None:
    for prompt in (BEGUN, "  Once\n upon"):
        answer = (await choice(app, "/v1/completions", prompt=prompt))["text"]
        found = await choice(app, "/v1/completions", prompt=prompt, echo=True)
        assert found["text"] == prompt + answer
    ids = app._preparation.tokenizer.encode(BEGUN, special=False)
    found = await choice(app, "/v1/completions", prompt=ids, echo=True)
    assert found["text"].startswith(BEGUN)
