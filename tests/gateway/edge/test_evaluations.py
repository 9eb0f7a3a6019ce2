"""Evaluations compute with the team's models, on the team's data."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.snapshot import Team
from gateway.core.failure import Forbidden
from gateway.edge.evaluations import check_graded
from tests.gateway.edge.teams import ALL, POOR, text
from tests.running import gateway
from tests.scripted import Provider, answer

TEAM = Team("red", lambda model: model.startswith("gpt-"))
SECRET = {"type": "score_model", "model": "secret"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"testing_criteria": [{"type": "label_model", "model": "secret"}]}, "model"),
        ({"data_source": {"type": "completions", "model": "secret"}}, "model"),
        ({"grader": {"type": "multi", "graders": {"one": SECRET}}}, "model"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": SECRET}}}, "model"),
        ({"data_source": {"type": "completions", "source": {"type": "stored_completions"}}}, "source"),
        ({"data_source": {"type": "responses", "source": {"type": "responses"}}}, "source"),
        ({"data_source_config": {"type": "logs", "metadata": {"x": "y"}}}, "data_source_config"),
    ],
)
def test_models_and_data_of_others_are_refused(body: Any, param: str) -> None:
    with pytest.raises(Forbidden) as refused:
        check_graded(orjson.dumps(body), TEAM)
    assert refused.value.param == param


def test_both_of_two_models_with_one_name_count() -> None:
    with pytest.raises(Forbidden):
        check_graded(b'{"grader": {"model": "secret", "mod\\u0065l": "gpt-5"}}', TEAM)


@pytest.mark.parametrize(
    "body",
    [
        {"grader": {"type": "score_model", "model": "gpt-5"}, "item": {"model": "secret"}},
        {"data_source": {"type": "responses", "source": {"type": "file_id", "id": "f"}}},
        {"data_source": {"source": {"type": "file_content", "content": [{"item": {"model": "x"}}]}}},
        {"data_source_config": {"type": "custom", "item_schema": {"type": "logs"}}},
        {"metadata": {"model": "secret"}, "model": None},
    ],
)
def test_what_is_the_teams_own_passes(body: Any) -> None:
    check_graded(orjson.dumps(body), TEAM)


async def test_a_grader_with_a_model_that_the_team_may_not_use_goes_nowhere(tmp_path: Path) -> None:
    policy = text("URL", ALL).replace('free: {models: ["*"]', "free: {models: [gpt-5]")
    async with (
        Provider([answer({"reward": 1})]) as provider,
        gateway(tmp_path, policy.replace("URL", provider.url)) as running,
        running.client(POOR) as client,
    ):
        path = "/v1/fine_tuning/alpha/graders/run"
        refused = await client.post(path, json={"grader": SECRET, "model_sample": "x"})
        assert (refused.status_code, provider.asked) == (403, [])
        allowed = {"grader": {**SECRET, "model": "gpt-5"}, "model_sample": "x"}
        assert (await client.post(path, json=allowed)).json() == {"reward": 1}
