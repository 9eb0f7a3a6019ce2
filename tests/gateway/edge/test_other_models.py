"""Models that a call names beside its own."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.snapshot import Team
from gateway.core.failure import BadRequest, Forbidden
from gateway.edge.other_models import check_other_models
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
    check_other_models({"tools": tools}, TEAM)


async def test_a_model_that_the_team_may_not_use_is_refused_in_a_tool_too(tmp_path: Path) -> None:
    tools = [{"type": "web_search"}, {"type": "image_generation", "model": "gpt-image-1"}]
    with pytest.raises(Forbidden) as refused:
        check_other_models({"tools": tools}, TEAM)
    assert refused.value.param == "tools.1.model"
    async with Provider([answer(CHAT)]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client("sk-poor") as poor:
            for path, asks in (("chat/completions", {"messages": []}), ("responses", {"input": "hi"})):
                body = {"model": "mini", "tools": tools, **asks}
                told = await poor.post(f"/v1/{path}", json=body)
                assert (told.status_code, told.json()["error"]["code"]) == (403, "model_not_allowed")
                assert (
                    'may not use the model "gpt-image-1", which this call' in told.json()["error"]["message"]
                )
        assert provider.asked == []
        async with running.client() as rich:
            plain = await rich.post(
                "/v1/chat/completions", json={"model": "mini", "tools": tools, "messages": []}
            )
            assert plain.status_code == 200


@pytest.mark.parametrize(
    "named",
    [
        {"models": None},
        {"models": ["gpt-5", "gpt-5-mini"], "route": "fallback"},
        {"fallbacks": [{"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}]},
        {"fallbacks": [{"gpt-6": ["gpt-5"]}, 7]},
        {"fallbacks": [[[["gpt-5"]]]]},
    ],
)
def test_models_of_the_teams_may_be_turned_to(named: Any) -> None:
    check_other_models(named, TEAM)


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ({"models": ["gpt-5", "vendor/forbidden"], "route": "fallback"}, "models.1"),
        ({"models": "vendor/forbidden"}, "models"),
        ({"fallbacks": ["vendor/forbidden"]}, "fallbacks.0"),
        ({"fallbacks": [{"model": "vendor/forbidden"}]}, "fallbacks.0.model"),
        ({"fallbacks": [{"model": "gpt-5", "fallbacks": []}, {"model": ["vendor/forbidden"]}]}, "fallbacks.1.model.0"),
        ({"fallbacks": [{"gpt-5": ["gpt-5-mini", "vendor/forbidden"]}]}, "fallbacks.0.gpt-5.1"),
        ({"context_window_fallbacks": [{"gpt-5": ["vendor/forbidden"]}]}, "context_window_fallbacks.0.gpt-5.0"),
        ({"content_policy_fallbacks": ["vendor/forbidden"]}, "content_policy_fallbacks.0"),
    ],
)  # fmt: skip
def test_no_other_model_may_be_turned_to(named: Any, place: str) -> None:
    with pytest.raises(Forbidden, match='may not use the model "vendor/forbidden"') as refused:
        check_other_models(named, TEAM)
    assert (refused.value.code, refused.value.param) == ("model_not_allowed", place)


def test_what_is_turned_to_is_not_asked_elsewhere() -> None:
    with pytest.raises(BadRequest, match="'api_base' is for the gateway's operator"):
        check_other_models({"fallbacks": [{"model": "gpt-5", "api_base": "http://127.0.0.1:1"}]}, TEAM)


@pytest.mark.parametrize(
    ("extra", "place"),
    [
        ({"model": "gpt-5"}, "extra_body.model"),
        ({"models": []}, "extra_body.models"),
        ({"max_tokens": 1_000_000}, "extra_body.max_tokens"),
        ({"top_k": 1, "previous_response_id": "resp_1"}, "extra_body.previous_response_id"),
        ({"Model": "gpt-5"}, "Model"),
        ({"api_base": "http://127.0.0.1:1"}, "api_base"),
        ({"n_predict": 1_000_000}, "n_predict"),
    ],
)
def test_nothing_that_is_checked_is_said_once_more_beside_the_call(extra: dict[str, Any], place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_other_models({"model": "gpt-5", "extra_body": extra}, TEAM)
    assert refused.value.param == place


def test_what_nobody_checks_may_stand_beside_the_call() -> None:
    check_other_models({"model": "gpt-5", "extra_body": {"top_k": 1, "safe_prompt": True}}, TEAM)
    check_other_models({"model": "gpt-5", "extra_body": None}, TEAM)


CALLS: dict[str, Any] = {
    "/v1/chat/completions": {"messages": []},
    "/v1/messages": {"messages": [], "max_tokens": 9},
    "/v1/responses": {"input": "hi"},
    "/v1/responses/input_tokens": {"input": "hi"},
    "/v1/moderations": {"input": "hi"},
    "/v1/images/generations": {"prompt": "hi"},
    "/v1beta/models/mini:generateContent": {"contents": []},
}


async def test_a_provider_is_told_of_no_model_that_the_team_may_not_use(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client("sk-poor") as poor:
            for path, asks in CALLS.items():
                body = {"model": "mini", **asks, "models": ["mini", "vendor/forbidden"], "route": "fallback"}
                told = await poor.post(path, json=body)
                assert told.status_code == 403, path
                assert 'may not use the model "vendor/forbidden"' in told.json()["error"]["message"]
            extra = {"model": "mini", "extra_body": '{"model": "vendor/forbidden"}'}
            told = await poor.post("/v1/audio/transcriptions", data=extra, files={"file": b"RIFF"})
            assert (told.status_code, told.json()["error"]["param"]) == (400, "extra_body.model")
            form = {"model": "mini", "fallbacks": "vendor/forbidden"}
            told = await poor.post("/v1/audio/transcriptions", data=form, files={"file": b"RIFF"})
            assert (told.status_code, told.json()["error"]["param"]) == (403, "fallbacks")
        assert provider.asked == []
        async with running.client() as rich:
            for form in ({"model": "mini", "fallbacks": "mini"}, {"model": "mini", "models": '["mini"]'}):
                told = await rich.post("/v1/audio/transcriptions", data=form, files={"file": b"RIFF"})
                assert told.status_code == 200
