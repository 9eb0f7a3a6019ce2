"""What coding agents send, as captured (shortened): Claude Code 2.1, Codex 0.171 and Gemini's command line 0.61, each
before a provider of another dialect. Each calls a tool and comes back with its result."""

from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.running import ACCESS, KEY, gateway
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, event, stream, word

SIGNATURE = "R0VNU0lHTkFUVVJF"
BASH = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
CACHED = {"type": "ephemeral"}
CLAUDE_CODE: dict[str, Any] = {
    "model": "claude-opus-4-8",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "what is in hello.txt", "cache_control": CACHED}]},
        {"role": "system", "content": "Available agent types for the Agent tool: ..."},
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197; cc_entrypoint=sdk-cli;"},
        {"type": "text", "text": "You are an agent.", "cache_control": CACHED},
    ],
    "tools": [{"name": "Bash", "description": "Runs a command", "input_schema": BASH}],
    "metadata": {"user_id": '{"device_id": "0f", "account_uuid": "", "session_id": "2874cb73"}'},
    "max_tokens": 32000,
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "stream": True,
}  # fmt: skip
THREAD = "01a21a32-e987-7401-ab17-36bbeebdf652"
CODEX: dict[str, Any] = {
    "model": "gpt-5",
    "stream": True,
    "input": [
        {"type": "message", "id": "msg_7d6c7ec2", "role": "developer",
         "content": [{"type": "input_text", "text": "You are a coding agent."}]},
        {"type": "message", "id": "msg_01a21a32", "role": "user",
         "content": [{"type": "input_text", "text": "what is in hello.txt"}]},
    ],
    "tools": [
        {"type": "function", "name": "exec_command", "strict": False, "parameters": BASH},
        {"type": "namespace", "name": "multi_agent_v1", "tools": [
            {"type": "function", "name": "close_agent", "strict": False, "parameters": BASH}]},
        {"type": "web_search", "external_web_access": True},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": THREAD,
    "client_metadata": {"session_id": THREAD, "thread_id": THREAD, "x-codex-installation-id": "574bef1a"},
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "what is in hello.txt"}]}],
    "systemInstruction": {"role": "user", "parts": [{"text": "You are an agent."}]},
    "tools": [{"functionDeclarations": [
        {"name": "run_shell_command", "description": "Runs a command", "parametersJsonSchema": BASH}]}],
    "generationConfig": {"temperature": 1, "topP": 0.95, "topK": 64},
}  # fmt: skip


def policies(kind: str, provider: Provider, asked: str, model: str, more: str = "") -> str:
    url = provider.url.removesuffix("/v1") if kind in ("gemini", "anthropic") else provider.url
    return f"""
kind: providers
providers: {{p: {{type: {kind}, base_url: "{url}", api_key: k{more}}}}}
---
kind: models
models: {{{asked}: {{targets: [{{provider: p, model: {model}}}]}}}}
---
{ACCESS}
"""


def asking(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False)


def events(told: str) -> list[Any]:
    lines = (line.removeprefix("data: ") for line in told.splitlines())
    return [orjson.loads(line) for line in lines if line.startswith("{")]


def as_claude_code_keeps_it(told: list[Any], model: str) -> list[dict[str, Any]]:
    """The content of an answer, without what is signed where it names another model than was asked for."""
    blocks: list[dict[str, Any]] = []
    named = told[0]["message"]["model"]
    for one in told:
        if one["type"] == "content_block_start":
            blocks.append({**one["content_block"]})
        elif one["type"] == "content_block_delta":
            name = {"thinking_delta": "thinking", "text_delta": "text", "signature_delta": "signature"}.get(
                one["delta"]["type"]
            )
            if name:
                blocks[-1][name] += one["delta"][name]
            else:
                blocks[-1]["input"] = orjson.loads(one["delta"]["partial_json"])
    return [one for one in blocks if one["type"] in ("text", "tool_use") or named == model]


async def test_claude_code_brings_back_what_gemini_signed(tmp_path: Path) -> None:
    called = {
        "functionCall": {"name": "Bash", "args": {"command": "cat hello.txt"}},
        "thoughtSignature": SIGNATURE,
    }
    content = {"role": "model", "parts": [{"text": "Let me see.", "thought": True}, called]}
    first = event(
        candidates=[{"content": content, "finishReason": "STOP"}], modelVersion="gemini-3-pro-preview"
    )
    async with (
        Provider([stream(first)]) as gemini,
        gateway(tmp_path, policies("gemini", gemini, "claude-opus-4-8", "gemini-3-pro")) as running,
        asking(running.url) as client,
    ):
        told = await client.post("/v1/messages?beta=true", json=CLAUDE_CODE)
        said = as_claude_code_keeps_it(events(told.text), CLAUDE_CODE["model"])
        result = {
            "type": "tool_result",
            "tool_use_id": said[-1]["id"],
            "content": "pineapple",
            "is_error": False,
        }
        turns = [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
        again = {**CLAUDE_CODE, "messages": [*CLAUDE_CODE["messages"], *turns]}
        assert (await client.post("/v1/messages?beta=true", json=again)).status_code == 200
    model, user = gemini.asked[1].json["contents"][-2:]
    assert model["parts"][-1] == called
    assert user["parts"] == [{"functionResponse": {"name": "Bash", "response": {"output": "pineapple"}}}]
    assert told.headers["x-gateway-dropped"].split(", ") == [
        "context_management", "system.cache_control", "messages.cache_control", "metadata.user_id"
    ]  # fmt: skip


async def test_an_alias_keeps_what_claude_signed_for_claude_code(tmp_path: Path) -> None:
    start = event(
        type="message_start", message={"id": "m", "model": "claude-opus-4-8-20260401", "content": []}
    )
    end = event(type="message_delta", delta={"stop_reason": "end_turn"}) + event(type="message_stop")
    whole = {"type": "message", "model": "claude-opus-4-8-20260401", "content": [], "stop_reason": "end_turn"}
    async with (
        Provider([stream(start, end), answer(whole)]) as anthropic,
        gateway(tmp_path, policies("anthropic", anthropic, "smart", "claude-opus-4-8")) as running,
        asking(running.url) as client,
    ):
        asked = {**CLAUDE_CODE, "model": "smart"}
        told = events((await client.post("/v1/messages?beta=true", json=asked)).text)
        assert told[0]["message"]["model"] == "smart"
        again = await client.post("/v1/messages?beta=true", json={**asked, "stream": False})
        assert again.json() == {**whole, "model": "smart"}
    assert [one.json["model"] for one in anthropic.asked] == ["claude-opus-4-8"] * 2


async def test_codex_names_threads_of_its_own(tmp_path: Path) -> None:
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "exec_command", "arguments": "{}"},
    }
    calls = event(choices=[{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}])
    async with (
        Provider([stream(calls, USAGE, DONE), stream(word("pineapple"), FINISH, USAGE, DONE)]) as chat,
        gateway(tmp_path, policies("compatible", chat, "gpt-5", "theirs")) as running,
        asking(running.url) as client,
    ):
        told = await client.post("/v1/responses", json=CODEX)
        output = events(told.text)[-1]["response"]["output"]
        result = {"type": "function_call_output", "call_id": output[-1]["call_id"], "output": "pineapple"}
        again = {**CODEX, "input": [*CODEX["input"], *output, result]}
        last = events((await client.post("/v1/responses", json=again)).text)[-1]["response"]
    assert last["output"][-1]["content"][0]["text"] == "pineapple"
    assert chat.asked[1].json["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": "pineapple",
    }


async def test_codex_before_its_own_api_is_untouched(tmp_path: Path) -> None:
    body = orjson.dumps(CODEX)
    async with (
        Provider([answer({"id": "r", "object": "response", "output": []})]) as openai,
        gateway(tmp_path, policies("openai", openai, "gpt-5", "gpt-5")) as running,
        asking(running.url) as client,
    ):
        assert (await client.post("/v1/responses", content=body)).status_code == 200
    assert openai.asked[0].body == body


async def test_codex_may_change_to_openai_in_the_middle_of_a_conversation(tmp_path: Path) -> None:
    signed = {"text": "a", "thoughtSignature": SIGNATURE}
    content = {"role": "model", "parts": [{"text": "Let me see.", "thought": True}, signed]}
    first = event(candidates=[{"content": content, "finishReason": "STOP"}], modelVersion="gemini-3-pro")
    async with (
        Provider([stream(first)]) as gemini,
        Provider([answer({"id": "r", "object": "response", "output": []})]) as openai,
    ):
        text = policies("gemini", gemini, "coder", "gemini-3-pro")
        text = text.replace(
            "api_key: k}", f'api_key: k}}, o: {{type: openai, api_key: k, base_url: "{openai.url}"}}'
        )
        text = text.replace("models: {", "models: {gpt-5: {targets: [{provider: o}]}, ", 1)
        async with gateway(tmp_path, text) as running, asking(running.url) as client:
            told = events((await client.post("/v1/responses", json={**CODEX, "model": "coder"})).text)
            output = told[-1]["response"]["output"]
            assert [one["type"] for one in output] == ["reasoning", "message"]
            again = {**CODEX, "input": [*CODEX["input"], *output]}
            changed = await client.post("/v1/responses", json=again)
            assert (changed.status_code, changed.headers["x-gateway-dropped"]) == (200, "input.reasoning")
    assert openai.asked[0].json["input"] == [*CODEX["input"], output[1]]


async def test_geminis_command_line_asks_for_sampling_that_reasoners_refuse(tmp_path: Path) -> None:
    done = {"id": "r", "object": "response", "status": "completed", "output": [], "model": "gpt-5"}
    async with (
        Provider([stream(event(type="response.completed", response=done))]) as openai,
        gateway(
            tmp_path, policies("compatible", openai, "gemini-3-pro", "gpt-5", ", responses: only")
        ) as running,
        asking(running.url) as client,
    ):
        told = await client.post("/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse", json=GEMINI)
    assert told.status_code == 200, told.text
    assert openai.asked[0].json.keys().isdisjoint({"temperature", "top_p", "top_k"})
    assert set(told.headers["x-gateway-dropped"].split(", ")) == {
        "generationConfig.topK",
        "generationConfig.topP",
    }
