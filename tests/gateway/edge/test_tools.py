"""Models that tools name."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.snapshot import Team
from gateway.core.failure import Forbidden
from gateway.edge.tools import check_tools
from tests.running import gateway, policies
from tests.scripted import CHAT, Provider, answer

TEAM = Team("research", models=lambda name: name.startswith("gpt-5"))


@pytest.mark.parametrize(
    "tools",
    [
        None,
        "no list",
        [None, 7],
        [{"type": "function", "function": {"name": "f", "parameters": {"model": "gpt-image-1"}}}],
        [{"type": "image_generation"}, {"type": "image_generation", "model": "gpt-5-image"}],
        [{"type": "advisor_20260301", "name": "advisor", "model": 7}],
    ],
)
def test_what_names_no_model_or_one_of_the_teams_passes(tools: Any) -> None:
    check_tools(tools, TEAM)


async def test_a_model_that_the_team_may_not_use_is_refused_in_a_tool_too(tmp_path: Path) -> None:
    tools = [{"type": "web_search"}, {"type": "image_generation", "model": "gpt-image-1"}]
    with pytest.raises(Forbidden) as refused:
        check_tools(tools, TEAM)
    assert refused.value.param == "tools.1.model"
    async with Provider([answer(CHAT)]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client("sk-poor") as poor:
            for path, asks in (("chat/completions", {"messages": []}), ("responses", {"input": "hi"})):
                body = {"model": "mini", "tools": tools, **asks}
                told = await poor.post(f"/v1/{path}", json=body)
                assert (told.status_code, told.json()["error"]["code"]) == (403, "model_not_allowed")
                assert 'may not use the model "gpt-image-1", which a tool' in told.json()["error"]["message"]
        assert provider.asked == []
        async with running.client() as rich:
            plain = await rich.post(
                "/v1/chat/completions", json={"model": "mini", "tools": tools, "messages": []}
            )
            assert plain.status_code == 200
