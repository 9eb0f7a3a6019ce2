"""Tools over two turns, between every client and every kind of provider: the second turn carries the ids, names,
arguments, results and signatures that the first had."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.contract import turns
from tests.contract.turns import CLIENTS, CLOCK, RESULTS, SIGNED, WEATHER, Json, Turn
from tests.gateway.providers.vertex.accounts import account
from tests.running import ACCESS, gateway
from tests.scripted import Act, Provider, answer

TOKEN = {"access_token": "ya29.short-lived", "expires_in": 3599}


class Back(NamedTuple):
    """A kind of provider; `ids` are as it makes them."""

    spec: str  # its fields in the policy file; HOST stands for its address
    ids: tuple[str, str]
    answers: Callable[[tuple[str, str], bool], Act]
    turn: Callable[[Json], Turn]
    signs: bool = False
    model: str = "m"


_VERTEX = (
    'type: vertex, project: p, location: global, base_url: "HOST/v1beta1", credentials: "${file:SECRET}"'
)
_CLAUDE = ("toolu_01A09q90qw90lq917835lq9", "toolu_01B09q90qw90lq917835lq9")
BACKS = {
    "openai": Back('type: openai, base_url: "HOST/v1", api_key: k', ("call_abc", "call_def"), turns.chat_answer,
                   turns.chat_turn),
    "mistral": Back('type: mistral, base_url: "HOST/v1", api_key: k', ("D681PevKs", "VvvODy9mT"),
                    turns.mistral_answer, turns.chat_turn),
    "local": Back('type: local, address: "HOST"', ("call_1", "call_2"), turns.chat_answer, turns.chat_turn),
    "responses alone": Back('type: compatible, base_url: "HOST/v1", responses: only', ("call_1", "call_2"),
                            turns.responses_answer, turns.responses_turn, signs=True),
    "bedrock": Back('type: bedrock, region: eu-central-1, endpoint: "HOST", api_key: k', ("tooluse_1", "tooluse_2"),
                    turns.converse_answer, turns.converse_turn, signs=True),
    "claude at bedrock": Back('type: bedrock, region: eu-central-1, endpoint: "HOST", api_key: k', _CLAUDE,
                              turns.claude_answer, turns.claude_turn, signs=True, model="anthropic.claude-x"),
    "cohere": Back('type: cohere, base_url: "HOST", api_key: k', ("weather_a1", "clock_b2"), turns.cohere_answer,
                   turns.cohere_turn),
    "anthropic": Back('type: anthropic, base_url: "HOST", api_key: k', _CLAUDE, turns.messages_answer,
                      turns.messages_turn, signs=True),
    "gemini": Back('type: gemini, base_url: "HOST", api_key: k', ("", "id-of-2"), turns.gemini_answer,
                   turns.gemini_turn, signs=True),
    "vertex": Back(_VERTEX, ("", ""), turns.gemini_answer, turns.gemini_turn, signs=True),
    "claude at vertex": Back(_VERTEX, _CLAUDE, turns.messages_answer, turns.messages_turn, signs=True,
                             model="claude-m"),
}  # fmt: skip


@asynccontextmanager
async def before(tmp_path: Path, back: Back) -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    async with Provider() as provider, Provider([answer(TOKEN)]) as tokens:
        secret = tmp_path / "sa.json"
        secret.write_text(account(token_uri=tokens.url.removesuffix("/v1") + "/token"))
        spec = back.spec.replace("HOST", provider.url.removesuffix("/v1")).replace("SECRET", str(secret))
        text = f"""
kind: providers
providers: {{it: {{{spec}}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            yield client, provider


@pytest.mark.parametrize("name", BACKS)
async def test_a_second_turn_carries_what_the_first_had(tmp_path: Path, name: str) -> None:
    back = BACKS[name]
    expected = [(back.ids[0], "weather", WEATHER), (back.ids[1], "clock", CLOCK)]
    async with before(tmp_path, back) as (http, provider):
        for dialect, client in CLIENTS.items():
            for streamed in (False, True):
                if name == "openai" and dialect == "openai.responses":
                    continue  # untouched, and its provider speaks Responses itself
                provider.script[:] = [back.answers(back.ids, streamed)]
                first, path = client.first(back.model, streamed), client.path(back.model, streamed)
                came = await http.post(path, json=first)
                assert came.status_code == 200, (dialect, came.text)
                said = client.said(came, streamed)
                assert client.calls(said) == [("weather", WEATHER), ("clock", CLOCK)], dialect
                assert (await http.post(path, json=client.second(first, said))).status_code == 200
                turn = back.turn(provider.asked[-1].json)
                assert turn.calls == expected, (dialect, streamed)
                assert turn.results == list(zip(back.ids, RESULTS, strict=True)), (dialect, streamed)
                assert turn.signed == ([SIGNED] if back.signs else []), (dialect, streamed)
