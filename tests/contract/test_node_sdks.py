"""The official SDKs for JavaScript, unmodified, before providers that speak their dialect and ones that do not."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.contract.test_tool_turns import BACKS
from tests.contract.turns import CLOCK, NAMES, WEATHER, chat_answer, messages_answer
from tests.running import ACCESS, KEY, gateway
from tests.scripted import CHAT, DONE, FINISH, USAGE, Act, Provider, answer, stream, word

OLDEST = 20  # of node, with which the SDKs were seen to work
HERE = Path(__file__).parent / "node"
SLOW = answer({"error": {"message": "slow down", "type": "rate_limit_error"}}, 429)
IDS = {"chat": BACKS["openai"].ids, "claude": BACKS["anthropic"].ids}


def event(**told: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (told["type"].encode(), orjson.dumps(told))


COUNTS = {"input_tokens": 7, "output_tokens": 3}
SAID = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": COUNTS,
    "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn",
}  # fmt: skip
TOLD = [
    event(type="message_start", message={**SAID, "content": [], "stop_reason": None}),
    event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"}),
    event(type="content_block_stop", index=0),
    event(type="message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=COUNTS),
    event(type="message_stop"),
]
WORDS = {
    "chat": (answer(CHAT), stream(word("hel"), word("lo"), FINISH, USAGE, DONE)),
    "claude": (answer(SAID), stream(*TOLD)),
}
CALLS = {"chat": chat_answer, "claude": messages_answer}
CUT = {"chat": stream(word("hel"), end=False), "claude": stream(*TOLD[:3], end=False)}


def script(kind: str, *, responses: bool) -> list[Act]:
    """What the provider does, in the order in which the programs ask."""
    whole, streamed = WORDS[kind]
    more = [whole, streamed] if responses else []
    return [whole, streamed, *(CALLS[kind](IDS[kind], one) for one in (False, True)), *more, SLOW, CUT[kind]]


def major_version(node: str) -> int:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.removeprefix("v").partition(".")[0])


async def run(program: str, url: str) -> Any:
    """Skips the test where the program cannot run."""
    node = shutil.which("node")
    if node is None or major_version(node) < OLDEST:
        pytest.skip(f"there is no node {OLDEST} or newer: make test installs what the system has")
    if not (HERE / "node_modules").is_dir():
        pytest.skip("the SDKs are not installed: make test installs them, or npm ci in tests/contract/node")
    process = await asyncio.create_subprocess_exec(
        node, HERE / program, url, KEY, "chat", "claude",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    return orjson.loads(told)


async def talk(program: str, tmp_path: Path, path: str = "") -> Any:
    """One gateway before a provider of each kind."""
    async with Provider() as chat, Provider() as claude:
        for kind, provider in (("chat", chat), ("claude", claude)):
            provider.script[:] = script(kind, responses=program == "openai.mjs")
        text = f"""
kind: providers
providers:
  chat: {{type: compatible, base_url: "{chat.url}"}}
  claude: {{type: anthropic, base_url: "{claude.url.removesuffix("/v1")}", api_key: k}}
---
kind: models
models:
  chat: {{targets: [{{provider: chat}}], retry: {{attempts: 1}}}}
  claude: {{targets: [{{provider: claude}}], retry: {{attempts: 1}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running:
            return await run(program, running.url + path)


def calls(kind: str) -> list[Any]:
    return [list(one) for one in zip(IDS[kind], NAMES, (WEATHER, CLOCK), strict=True)]


async def test_openai_for_node(tmp_path: Path) -> None:
    found = await talk("openai.mjs", tmp_path, "/v1")
    for kind in ("chat", "claude"):
        here = found[kind]
        assert here["whole"] == here["stream"] == ["hello", 10]
        assert here["tools"] == [calls(kind), "tool_calls"]
        assert here["gathered"] == calls(kind)
        assert here["response"] == ["hello", 3]
        assert here["events"] == ["response.created", "response.completed"]
        assert here["slow"][:2] == ["RateLimitError", 429]
        assert here["broken"][0] == "APIError"
    assert found["unknown"] == ["NotFoundError", 404, "model_not_found", True]
    assert found["stranger"] == ["AuthenticationError", 401, "invalid_api_key", True]
    assert found["models"] == ["chat", "claude"]


async def test_anthropic_for_node(tmp_path: Path) -> None:
    found = await talk("anthropic.mjs", tmp_path)
    for kind in ("chat", "claude"):
        here = found[kind]
        assert here["whole"] == here["stream"] == ["hello", "end_turn", 3]
        assert here["tools"] == [calls(kind), "tool_use"]
        assert here["gathered"] == calls(kind)
        assert here["slow"] == ["RateLimitError", 429, "rate_limit_error"]
        assert here["broken"][2] == "api_error"
    assert found["unknown"] == ["NotFoundError", 404, "not_found_error"]
    assert found["stranger"] == ["AuthenticationError", 401, "authentication_error"]
