"""Calls of every kind, good and bad, so that no panel of the dashboard has a reason to be empty."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx

from tests.deploy.stack import Stack
from tests.scripted import DONE, FINISH, Act, Asked, Provider, answer, event, hang, stream, word

KEYS = {team: f"sk-live-{team}-0123456789" for team in ("red", "blue", "small")}
USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 12,
    "total_tokens": 52,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
WHOLE = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
}
POLICIES = """
kind: providers
providers:
  good:  {{type: compatible, base_url: "{good}"}}
  shaky: {{type: compatible, base_url: "{shaky}"}}
  sick:  {{type: compatible, base_url: "{sick}"}}
  mute:  {{type: compatible, base_url: "{mute}"}}
  cut:   {{type: compatible, base_url: "{cut}"}}
---
kind: models
models:
  smart:  {{targets: [{{provider: good}}]}}
  steady: {{targets: [{{provider: shaky}}], retry: {{attempts: 3, budget: 100%}}}}
  spare:  {{targets: [{{provider: sick}}, {{provider: good}}]}}
  poor:   {{targets: [{{provider: sick}}]}}
  slow:   {{targets: [{{provider: mute}}]}}
  broken: {{targets: [{{provider: cut}}]}}
  picky:  {{targets: [{{provider: good, if: "metadata.tier == 'gold'"}}, {{provider: good, model: any}}]}}
---
kind: access
teams:
  red:   {{models: ["*"]}}
  blue:  {{models: ["*"]}}
  small: {{models: [smart]}}
keys: [{keys}]
---
kind: rate-limits
rules:
  - {{id: small-calls, when: {{teams: [small]}}, limit: 1, unit: requests, per: day}}
  - {{id: blue-shadow, when: {{teams: [blue]}}, limit: 1, unit: requests, per: day, mode: shadow}}
"""


def in_turn(*acts: Act) -> Act:
    """The acts in turn, again and again."""
    turn = 0

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        await acts[turn % len(acts)](asked, writer)

    return act


def speaking() -> Act:
    """A whole answer, or a stream where one is asked for."""
    told = stream(word("a"), word("b"), FINISH, event(choices=[], usage=USAGE), DONE)

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (told if asked.json.get("stream") else answer({**WHOLE, "usage": USAGE}))(asked, writer)

    return act


class Traffic:
    """`flow` sends calls until it is cancelled."""

    def __init__(self, stack: Stack, client: httpx.AsyncClient) -> None:
        self._stack, self._client = stack, client
        self.statuses: set[int] = set()
        self.edit = stack.mounted("gateway", "/etc/gatehouse/policies") / "edit.yaml"

    async def policies_in_force(self) -> None:
        """Until the keys of these policies are known."""
        headers = {"authorization": f"Bearer {KEYS['red']}"}
        async with asyncio.timeout(10):
            while (await self._client.get("/v1/models", headers=headers)).status_code != 200:
                await asyncio.sleep(0.05)  # the folder is watched; a save is live within a second

    async def flow(self) -> None:
        await asyncio.gather(self._rounds(), self._talk(), self._talk())

    async def _rounds(self) -> None:
        for turn in range(10_000):
            await asyncio.gather(self._calls(), self._edits(turn), self._redis_away(turn))

    async def _talk(self) -> None:
        """Long answers of the local engine, one after the other: a scrape is to find it at work."""
        while True:
            await self.chat("demo", stream=True, max_tokens=200, ignore_eos=True)

    async def chat(self, model: str, team: str = "red", **more: Any) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        await self._post(KEYS.get(team, team), json=body)

    async def _post(self, key: str, **request: Any) -> None:
        # Of a provider that is mute, clients that wait for no longer say nothing: its circuit stays closed.
        headers = {"authorization": f"Bearer {key}", "x-gateway-timeout": "1.5"}
        with suppress(httpx.TransportError):
            answer = await self._client.post("/v1/chat/completions", headers=headers, **request)
            self.statuses.add(answer.status_code)

    async def _calls(self) -> None:
        await asyncio.gather(
            self.chat("smart"),
            self.chat("smart", "blue", stream=True),
            self.chat("smart", "small"),  # one a day, then 429
            self.chat("poor", "small"),  # 403
            self.chat("unheard-of"),  # 404
            self.chat("smart", "sk-nobody"),  # 401
            self._post(KEYS["red"], content=b'{"model": '),  # 400
            self.chat("spare"),
            self.chat("poor"),
            self.chat("picky"),
            self.chat("broken", stream=True),
            self.chat("slow"),
            *(self.chat("steady") for _ in range(3)),
            self._hang_up(),
        )
        await asyncio.gather(*(self.chat("slow") for _ in range(60)))  # past what may be in flight

    async def _hang_up(self) -> None:
        with suppress(httpx.TimeoutException):
            body = {"model": "slow", "messages": [], "stream": True}
            headers = {"authorization": f"Bearer {KEYS['blue']}"}
            await self._client.post("/v1/chat/completions", json=body, headers=headers, timeout=0.2)

    async def _edits(self, turn: int) -> None:
        """A bad edit of the policies, and its repair."""
        if turn % 2:
            self.edit.unlink(missing_ok=True)
        else:
            self.edit.write_text("kind: models\nmodels: {x: {target: none}}\n")

    async def _redis_away(self, turn: int) -> None:
        """For a second, at first and every fourth time."""
        if turn % 4 == 0:
            self._stack.signal("redis", signal.SIGSTOP)
            await asyncio.sleep(1)
            self._stack.signal("redis", signal.SIGCONT)


@asynccontextmanager
async def traffic(stack: Stack) -> AsyncIterator[Traffic]:
    """Providers that do well and badly, policies that name them, and calls flowing until the block ends."""
    scripts = {
        "good": speaking(),
        "shaky": in_turn(answer({"error": {"message": "no"}}, 500), speaking()),
        "sick": answer({"error": {"message": "no"}}, 500),
        "mute": hang(),
        "cut": stream(word("a"), end=False),
    }
    async with AsyncExitStack() as open:
        providers = {name: await open.enter_async_context(Provider([act])) for name, act in scripts.items()}
        file = stack.mounted("gateway", "/etc/gatehouse/policies") / "traffic.yaml"
        hashes = {team: hashlib.sha256(key.encode()).hexdigest() for team, key in KEYS.items()}
        keys = ", ".join(f'{{name: {t}, team: {t}, hash: "sha256:{digest}"}}' for t, digest in hashes.items())
        urls = {name: provider.url for name, provider in providers.items()}
        file.write_text(POLICIES.format(keys=keys, **urls))
        client = httpx.AsyncClient(
            base_url=stack.url("8080"), timeout=10, limits=httpx.Limits(max_connections=None), trust_env=False
        )
        flow = Traffic(stack, await open.enter_async_context(client))
        await flow.policies_in_force()
        flowing = asyncio.ensure_future(flow.flow())
        try:
            yield flow
        finally:
            flowing.cancel()
            await asyncio.gather(flowing, return_exceptions=True)
            stack.signal("redis", signal.SIGCONT)
            flow.edit.unlink(missing_ok=True)
            file.unlink()
