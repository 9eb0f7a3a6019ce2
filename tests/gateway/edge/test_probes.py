"""Models as each dialect lists them, to those who may use them."""

from pathlib import Path
from typing import Any

import pytest

from tests.running import gateway, policies

CLAUDES = {"anthropic-version": "2023-06-01"}


@pytest.fixture
def text() -> str:
    """Two models, and all names that providers may know."""
    return policies("http://127.0.0.1:9/v1").replace("mini:", '"*": {targets: [{provider: p0}]}\n  mini:')


def of_openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"}


def of_anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


async def test_one_model_and_all_come_in_the_dialect_of_whoever_asks(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        every = (await client.get("/v1/models")).json()
        assert every == {"object": "list", "data": [of_openai("mini"), of_openai("smart")]}
        assert (await client.get("/v1/models/smart")).json() == of_openai("smart")
        every = (await client.get("/v1/models", headers=CLAUDES)).json()
        assert (every["data"], every["first_id"]) == ([of_anthropic("mini"), of_anthropic("smart")], "mini")
        assert (await client.get("/v1/models/smart", headers=CLAUDES)).json() == of_anthropic("smart")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/meta%2Fllama"])
async def test_an_answer_has_the_id_of_its_request_and_the_version_of_the_policies(
    tmp_path: Path, text: str, path: str
) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        answered = await client.get(path, headers={"x-request-id": "mine"})
        assert answered.status_code == 200
        assert answered.headers["x-request-id"] == "mine"
        assert answered.headers["x-gateway-policies"] == running.house.desk.snapshot.version
        assert len((await client.get(path)).headers["x-request-id"]) == 32


async def test_no_model_is_without_a_name(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        answered = await client.get("/v1/models/")
        assert (answered.status_code, answered.json()["error"]["code"]) == (404, "route_not_found")
