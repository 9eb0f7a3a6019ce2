"""A call that some targets have no words for: it goes where all of it can be carried, and only else with less."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.config.course import prepare
from gateway.config.dry_run import dry_run
from gateway.config.explain import explain
from gateway.config.schema import GivenSpec
from gateway.core.exchange import Call, Caller, Exchange
from gateway.wire.chat import CAPS
from tests.gateway.config.texts import BASE, snapshot
from tests.running import ACCESS, Running, gateway
from tests.scripted import CHAT, Provider, answer

HI = {"role": "user", "content": "hi"}
MESSAGE = {
    "id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 7, "output_tokens": 3},
}  # fmt: skip
DOWN = answer({"error": {"message": "down", "type": "api_error"}}, 500)
ODD_FOR_CLAUDE = {"model": "m", "messages": [HI], "logit_bias": {"1": 1}}
CITED = {"type": "document", "source": {"type": "text", "data": "d"}, "citations": {"enabled": True}}
ODD_FOR_CHAT = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [CITED]}]}


def papers(claude: Provider, chat: Provider, *order: str) -> str:
    targets = ", ".join(f"{{provider: {name}}}" for name in order)
    return f"""
kind: providers
providers:
  claude: {{type: anthropic, base_url: "{claude.url.removesuffix("/v1")}", api_key: k}}
  chat: {{type: compatible, base_url: "{chat.url}"}}
---
kind: models
models: {{m: {{targets: [{targets}]}}}}
---
{ACCESS}
"""


async def post(running: Running, path: str, body: Any) -> httpx.Response:
    async with running.client() as client:
        return await client.post(path, json=body)


async def test_a_target_that_cannot_carry_a_field_is_passed_over_where_another_can(tmp_path: Path) -> None:
    async with Provider([answer(MESSAGE)]) as claude, Provider([answer(CHAT)]) as chat:
        async with gateway(tmp_path, papers(claude, chat, "claude", "chat")) as running:
            came = await post(running, "/v1/chat/completions", ODD_FOR_CLAUDE)
            assert (came.status_code, came.headers["x-gateway-target"]) == (200, "chat/m")
            assert came.headers["x-gateway-attempts"] == "1"
            assert "x-gateway-dropped" not in came.headers
            assert (claude.asked, chat.asked[0].json["logit_bias"]) == ([], {"1": 1})


async def test_a_target_passed_over_is_the_last_resort_and_goes_without_the_field(tmp_path: Path) -> None:
    async with Provider([answer(MESSAGE)]) as claude, Provider([DOWN]) as chat:
        async with gateway(tmp_path, papers(claude, chat, "claude", "chat")) as running:
            came = await post(running, "/v1/chat/completions", ODD_FOR_CLAUDE)
            assert (came.status_code, came.headers["x-gateway-target"]) == (200, "claude/m")
            assert came.headers["x-gateway-dropped"] == "logit_bias"
            assert (len(chat.asked), len(claude.asked)) == (2, 1)


async def test_a_field_of_the_clients_own_dialect_is_dropped_before_a_fallback(tmp_path: Path) -> None:
    async with Provider([DOWN]) as claude, Provider([answer(CHAT)]) as chat:
        async with gateway(tmp_path, papers(claude, chat, "claude", "chat")) as running:
            came = await post(running, "/v1/messages", ODD_FOR_CHAT)
            assert came.status_code == 200, came.text
            assert came.headers["x-gateway-dropped"] == "messages.0.content.0.citations"
            assert chat.asked[0].json["messages"] == [{"role": "user", "content": "d"}]


@pytest.mark.parametrize(
    ("order", "path", "body", "field"),
    [
        (["claude"], "/v1/chat/completions", ODD_FOR_CLAUDE, "logit_bias"),
        (["chat", "chat"], "/v1/messages", ODD_FOR_CHAT, "messages.0.content.0.citations"),
    ],
)
async def test_what_no_target_can_carry_is_refused_by_name_and_nobody_is_asked(
    tmp_path: Path, order: list[str], path: str, body: Any, field: str
) -> None:
    async with Provider([answer(MESSAGE)]) as claude, Provider([answer(CHAT)]) as chat:
        async with gateway(tmp_path, papers(claude, chat, *order)) as running:
            came = await post(running, path, body)
            assert (came.status_code, came.headers["x-gateway-attempts"]) == (400, "0")
            message = came.json()["error"]["message"]
            assert message.startswith(f"'{field}' cannot be carried")
            assert message.endswith(f"(target {order[0]}/m)")
            assert claude.asked == chat.asked == []
            assert (await running.usage())["total"]["calls"] == 0


async def test_where_nothing_would_be_left_of_a_call_the_failure_before_is_told(tmp_path: Path) -> None:
    odd = {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "function": {"arguments": "["}}]}
    async with Provider([answer(MESSAGE)]) as claude, Provider([DOWN]) as chat:
        async with gateway(tmp_path, papers(claude, chat, "chat", "claude")) as running:
            came = await post(running, "/v1/chat/completions", {"model": "m", "messages": [HI, odd]})
            assert (came.status_code, came.json()["error"]["message"]) == (500, "down")
            assert claude.asked == []
            for _ in range(4):  # until the breaker of the one that could is open
                came = await post(running, "/v1/chat/completions", {"model": "m", "messages": [HI, odd]})
            assert (came.status_code, came.json()["error"]["code"]) == (503, "no_target")


async def test_tools_that_a_provider_runs_itself_are_left_out_and_the_call_is_served(tmp_path: Path) -> None:
    tools = [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": {"type": "object"}}]
    async with Provider([answer(MESSAGE)]) as claude, Provider([answer(CHAT)]) as chat:
        async with gateway(tmp_path, papers(claude, chat, "chat")) as running:
            came = await post(running, "/v1/responses", {"model": "m", "input": "hi", "tools": tools})
            assert came.status_code == 200, came.text
            assert came.headers["x-gateway-dropped"] == "tools[0]"
            assert [tool["function"]["name"] for tool in chat.asked[0].json["tools"]] == ["f"]


async def test_what_a_coding_agent_says_with_each_call_is_no_refusal_but_named(tmp_path: Path) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    call = {
        "model": "m", "max_tokens": 9, "service_tier": "auto", "context_management": {"edits": [{"type": "x"}]},
        "system": [{"type": "text", "text": "s", **cached}], "metadata": {"user_id": "u"},
        "tools": [{"name": "f", "input_schema": {"type": "object"}, **cached}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                                              {"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r", "is_error": True,
                                          **cached}]},
        ],
    }  # fmt: skip
    names = (
        "context_management, system.cache_control, messages.cache_control, tools.cache_control, "
        "messages.thinking, messages.is_error"
    )
    async with Provider([answer(MESSAGE)]) as claude, Provider([answer(CHAT)]) as chat:
        async with gateway(tmp_path, papers(claude, chat, "chat")) as running:
            came = await post(running, "/v1/messages", call)
            assert (came.status_code, came.headers["x-gateway-dropped"]) == (200, names)
        async with gateway(tmp_path, papers(claude, chat, "claude")) as running:
            came = await post(running, "/v1/messages", call)
            assert came.status_code == 200
            assert "x-gateway-dropped" not in came.headers
            call = {"model": "m", "messages": [HI], "store": True, "service_tier": "flex", "metadata": {"a": "b"},
                    "prompt_cache_key": "k"}  # fmt: skip
            came = await post(running, "/v1/chat/completions", call)
            assert came.headers["x-gateway-dropped"] == "metadata, prompt_cache_key, service_tier, store"


PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
    "gemini.generate": "/v1beta/models/m:generateContent",
}


@pytest.mark.parametrize(
    ("dialect", "body", "order"),
    [
        ("openai.chat", ODD_FOR_CLAUDE, ["claude", "chat"]),
        ("openai.responses", {"model": "m", "input": "hi", "top_logprobs": 2}, ["claude", "chat"]),
        ("anthropic.messages", ODD_FOR_CHAT, ["chat", "claude"]),
        (
            "gemini.generate",
            {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"seed": 7}},
            ["claude", "chat"],
        ),
    ],
)
async def test_what_is_explained_is_what_a_call_does(
    tmp_path: Path, dialect: str, body: Any, order: list[str]
) -> None:
    async with Provider([answer(MESSAGE)]) as claude, Provider([answer(CHAT)]) as chat:
        providers = {"claude": claude, "chat": chat}
        async with gateway(tmp_path, papers(claude, chat, *order)) as running:
            given = GivenSpec.model_validate(
                {"team": "research", "model": "m", "dialect": dialect, "request": body}
            )
            first, second = explain(running.house.policies.snapshot, given, 0.0)["targets"]
            came = await post(running, PATHS[dialect], body)
            assert (came.status_code, came.headers["x-gateway-target"]) == (200, first["target"]), came.text
            assert first["target"] == f"{order[1]}/m"
            assert first["dropped"] == []
            providers[order[1]].script[:] = [DOWN]
            came = await post(running, PATHS[dialect], body)
            assert (came.status_code, came.headers["x-gateway-target"]) == (200, second["target"]), came.text
            assert came.headers["x-gateway-dropped"] == ", ".join(second["dropped"])


def asked(**request: Any) -> bytes:
    """The body for the first target of a call by a team with a bound."""
    capped = 'kind: access\nteams: {capped: {models: ["*"], max_output_tokens: 100}}'
    run = dry_run(snapshot(BASE, capped), GivenSpec(team="capped", model="gpt-5", request=request))
    assert run.exchange is not None
    assert run.lane is not None
    return prepare(run.exchange, run.lane, run.targets[0], leniently=False).body


def test_a_teams_bound_is_added_where_the_call_has_none() -> None:
    assert orjson.loads(asked())["max_completion_tokens"] == 100
    assert orjson.loads(asked(max_tokens=7)) == {"messages": [], "max_tokens": 7, "model": "gpt-5"}


@pytest.mark.parametrize("foreign", ["max_output_tokens", "maxOutputTokens", "generationConfig"])
def test_a_bound_that_the_calls_dialect_does_not_read_is_none(foreign: str) -> None:
    assert orjson.loads(asked(**{foreign: 1}))["max_completion_tokens"] == 100
    assert orjson.loads(asked(max_tokens=None))["max_completion_tokens"] == 100


CLAUDE = """
kind: providers
providers: {claude: {type: anthropic, base_url: "http://127.0.0.1:9", api_key: k}}
---
kind: models
models: {m: {targets: [{provider: claude}]}}
---
kind: access
teams: {capped: {models: ["*"], max_output_tokens: 100}}
"""


def crossed(dialect: str, request: Any) -> tuple[Any, list[str]]:
    """What the same team's call is in Anthropic's words, and what was left out of it."""
    given = GivenSpec.model_validate({"team": "capped", "model": "m", "dialect": dialect, "request": request})
    run = dry_run(snapshot(CLAUDE), given)
    assert run.exchange is not None
    assert run.lane is not None
    prepared = prepare(run.exchange, run.lane, run.targets[0], leniently=False)
    return orjson.loads(prepared.body), prepared.dropped


@pytest.mark.parametrize("more", [{}, {"max_completion_tokens": 9000}, {"max_tokens": 9000}])
def test_across_dialects_a_foreign_bound_does_not_arrive_and_is_named(more: dict[str, Any]) -> None:
    for bound, most in ({}, 100), ({"max_output_tokens": 7}, 7):
        body, dropped = crossed("openai.responses", {"input": "hi", **bound, **more})
        assert (body["max_tokens"], dropped) == (most, list(more))


def test_a_body_that_is_no_json_goes_as_it_is() -> None:
    found = snapshot(BASE)
    run = dry_run(found, GivenSpec(team="all", model="gpt-5"))
    assert run.exchange is not None
    assert run.lane is not None
    run.exchange.call = replace(run.exchange.call, dialect="openai.raw", body=b"--x", payload={})
    assert prepare(run.exchange, run.lane, run.targets[0], leniently=False).body == b"--x"


DEFAULTS = """
kind: providers
providers: {p: {type: openai, api_key: k, params: {temperature: 0.5, max_tokens: 9, user: u}}}
---
kind: models
models: {m: {targets: [{provider: p}]}}
---
kind: access
teams: {free: {models: ["*"]}, capped: {models: ["*"], max_output_tokens: 100}}
"""
ALL_OF_THEM = {"temperature": 0.5, "max_tokens": 9, "user": "u"}


def added(path: str, team: str = "free", dialect: str = "openai.raw", **body: Any) -> dict[str, Any]:
    """What such a call gets beside what it says."""
    found = snapshot(DEFAULTS)
    caller = Caller("k", team)
    lane = found.lane(caller, "m") if "model" in body else found.provider_lane(caller)
    route = path.split("/")[1]
    call = Call(route, dialect, "POST", path, orjson.dumps(body), body, body.get("model", ""), stream=False)
    exchange = Exchange("id", call, caller, "id", 0.0, 0.0)
    sent = orjson.loads(prepare(exchange, lane, lane.targets[0], leniently=False).body)
    assert sent.items() >= body.items()
    return {name: value for name, value in sent.items() if name not in body}


def test_defaults_of_a_provider_are_for_calls_in_which_a_model_writes() -> None:
    assert added("/responses", dialect="openai.responses", model="m", input="x") == ALL_OF_THEM
    assert added("/responses", prompt={"id": "p"}) == ALL_OF_THEM
    assert added("/threads/runs", assistant_id="a") == ALL_OF_THEM
    for path in ("/conversations", "/threads", "/vector_stores", "/batches", "/responses/compact"):
        assert added(path, x=1) == {}
    assert added("/assistants", model="m") == {}


def test_of_the_defaults_a_model_that_does_not_write_has_those_that_are_not_about_writing() -> None:
    assert added("/embeddings", dialect="openai.embeddings", model="m", input="x") == {"user": "u"}
    assert added("/moderations", model="m", input="x") == {"user": "u"}


@pytest.mark.parametrize("default", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("said", ["max_tokens", "max_completion_tokens"])
async def test_a_default_bound_stands_beside_no_bound_of_the_call_whatever_it_is_called(
    tmp_path: Path, default: str, said: str
) -> None:
    async with Provider([answer(CHAT)]) as provider:
        text = f"""
kind: providers
providers: {{chat: {{type: compatible, base_url: "{provider.url}", params: {{{default}: 77, seed: 7}}}}}}
---
kind: models
models: {{m: {{targets: [{{provider: chat}}]}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running:
            for bounds in ({said: 3}, {said: None}):
                came = await post(running, "/v1/chat/completions", {"model": "m", "messages": [HI], **bounds})
                assert came.status_code == 200, came.text
            first, second = ({name: one.json.get(name) for name in CAPS} for one in provider.asked)
            assert first == {**dict.fromkeys(CAPS), said: 3}
            assert second == {**dict.fromkeys(CAPS), default: 77}  # null says no more than absence
            assert provider.asked[0].json["seed"] == 7


def test_a_teams_bound_is_added_to_calls_that_pass_as_they_are_too() -> None:
    rest = {"temperature": 0.5, "user": "u"}
    assert added("/responses", "capped", prompt={"id": "p"}) == {**rest, "max_output_tokens": 100}
    assert added("/threads/t/runs", "capped", assistant_id="a") == {**rest, "max_completion_tokens": 100}
    assert added("/conversations", "capped", x=1) == {}
    assert added("/embeddings", "capped", "openai.embeddings", model="m", input="x") == {"user": "u"}
