"""LangChain's own standard tests for ChatOpenAI, by both of OpenAI's APIs, before a provider that speaks Anthropic's:
all that its users rely on (tools, structured output, streams, usage, agents) comes through the translation.

What answers is no model but a rule: it calls the tool that is asked for, with arguments out of the question.
"""

import asyncio
import base64
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import httpx
import orjson
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

from tests.running import ACCESS, KEY, gateway
from tests.scripted import Asked, Provider, answer, stream

# What LangChain says to its own users when its tests try an old kind of model.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename"),
]
Json = dict[str, Any]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4 no more than a beginning"
POLICY = """
kind: providers
providers: {{claude: {{type: anthropic, base_url: "{url}", api_key: provider-secret-key}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: claude}}]}}}}
---
{access}
"""


def made_up(schema: Json, text: str) -> Any:
    """A value of this kind: out of the question, where it holds one."""
    for choices in (schema.get("anyOf"), schema.get("allOf")):
        if choices:
            return made_up(choices[0], text)
    match schema.get("type"):
        case "object":
            return {name: made_up(of, text) for name, of in schema.get("properties", {}).items()}
        case "array":
            return [made_up(schema["items"], text)]
        case "integer" | "number":
            number = re.search(r"-?\d+", text)
            return int(number[0]) if number else 3
        case "boolean":
            return True
    quoted = re.search(r"'([^']+)'", text)
    return quoted[1] if quoted else text


def thought(asked: Json) -> list[Json]:
    """The blocks of the answer."""
    last = asked["messages"][-1]["content"]
    blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
    text = " ".join(block["text"] for block in blocks if block["type"] == "text")
    if any(block["type"] == "tool_result" for block in blocks):
        return [{"type": "text", "text": "That is what the tool says."}]
    if form := asked.get("output_config", {}).get("format"):
        return [{"type": "text", "text": orjson.dumps(made_up(form["schema"], text)).decode()}]
    choice, tools = asked.get("tool_choice", {}), asked.get("tools", [])
    wanted = [tool for tool in tools if choice.get("name", tool["name"]) == tool["name"]]
    if wanted and (choice.get("type") in ("any", "tool") or _calls_for(wanted[0]["name"], text)):
        given = made_up(wanted[0]["input_schema"], text)
        return [{"type": "tool_use", "id": "toolu_1", "name": wanted[0]["name"], "input": given}]
    return [{"type": "text", "text": "Hello, I am a rule and not a model."}]


def _calls_for(name: str, text: str) -> bool:
    return "tool" in text or name.split("_")[-1] in text


def told(blocks: Sequence[Json], model: str) -> Json:
    calls = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": list(blocks),
        "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 2},
    }  # fmt: skip


def events(whole: Json) -> Iterator[bytes]:
    """The same as a stream, texts and arguments in pieces of a few characters."""
    yield _event("message_start", message={**whole, "content": [], "stop_reason": None})
    for place, block in enumerate(whole["content"]):
        empty: Json
        if block["type"] == "text":
            empty, kind, field, said = {"type": "text", "text": ""}, "text_delta", "text", block["text"]
        else:
            empty, kind, field = {**block, "input": {}}, "input_json_delta", "partial_json"
            said = orjson.dumps(block["input"]).decode()
        yield _event("content_block_start", index=place, content_block=empty)
        for at in range(0, len(said), 5):
            yield _event("content_block_delta", index=place, delta={"type": kind, field: said[at : at + 5]})
        yield _event("content_block_stop", index=place)
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=ending, usage=whole["usage"])
    yield _event("message_stop")


def _event(kind: str, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **more}))


async def by_rule(asked: Asked, writer: asyncio.StreamWriter) -> None:
    whole = told(thought(asked.json), asked.json["model"])
    await (stream(*events(whole)) if asked.json.get("stream") else answer(whole))(asked, writer)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a gateway that runs in a thread: LangChain's tests block."""
    ready, over = SimpleQueue[str](), SimpleQueue[asyncio.Event]()

    async def serve() -> None:
        async with Provider([by_rule]) as provider:
            text = POLICY.format(url=provider.url, access=ACCESS)
            async with gateway(tmp_path_factory.mktemp("langchain"), text) as running:
                ends = asyncio.Event()
                over.put(ends)
                ready.put(running.url)
                await ends.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    yield ready.get(timeout=20)
    loop.call_soon_threadsafe(over.get().set)
    thread.join()
    loop.close()


class Standard(ChatModelIntegrationTests):
    """Left out: what Anthropic's Messages or OpenAI's dialects have no word for, refused by name (sound, JSON without a
    schema, documents in tool results), blocks of Anthropic's own, and LangChain's timing of itself."""

    by_responses = False
    supports_image_inputs = supports_image_urls = supports_pdf_inputs = True
    supports_image_tool_message = True

    @pytest.fixture(autouse=True)
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pictures and documents that LangChain's tests fetch from elsewhere come from here."""
        monkeypatch.setattr(
            httpx, "get", lambda url, **_: httpx.Response(200, content=PDF if url.endswith("pdf") else PNG)
        )

    @pytest.fixture
    async def model(self, url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BaseChatModel]:
        """With clients of its own: those that LangChain keeps outlive the loop that they were made in. Some tests
        make models by themselves, out of the environment. No certificates are read: nothing here is sent by TLS."""
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        async with DefaultAsyncHttpxClient(verify=False) as asynchronous:
            with DefaultHttpxClient(verify=False) as blocking:
                yield ChatOpenAI(
                    **self.chat_model_params, http_client=blocking, http_async_client=asynchronous
                )

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "claude-sonnet-4-5", "max_retries": 0, "stream_usage": True,
            "use_responses_api": self.by_responses,
        }  # fmt: skip

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "another"


class TestChatCompletions(Standard):
    pass


class TestResponses(Standard):
    by_responses = True


del Standard, ChatModelIntegrationTests
