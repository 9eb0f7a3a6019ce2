"""Services of the compose file that end in order and come back with what their volumes keep."""

from collections.abc import Iterator

import httpx
import pytest

from tests.deploy.stack import SECRETS, Stack

MODELS = "/v1/models"


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis and a gateway of one worker: a key is known to it as soon as it is made."""
    stack = Stack(tmp_path_factory.mktemp("pair"), WORKERS="1")
    try:
        stack.start("redis")
        stack.start("gateway")
        yield stack
    finally:
        stack.close()


def test_a_gateway_comes_back_with_its_keys_and_ended_in_order(pair: Stack) -> None:
    words = ["python", "-m", "gateway", "keys", "create", "--name", "kept", "--team", "default"]
    key = pair.run("gateway", *words, GATEWAY_ADMIN_URL=pair.url("8081")).stdout.split()[0]
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(pair.url("8080") + MODELS, headers=headers).status_code == 200
    assert pair.stop("gateway") == 0
    pair.start("gateway")
    assert httpx.get(pair.url("8080") + MODELS, headers=headers).status_code == 200


def test_redis_comes_back_with_the_limits(pair: Stack) -> None:
    def redis(*words: str) -> str:
        command = ["redis-cli", "-p", str(pair.ports["6379"]), *words]
        return pair.run("redis", *command, REDISCLI_AUTH=SECRETS["REDIS_PASSWORD"]).stdout.strip()

    assert redis("set", "gatehouse:v1:{l}:bucket", "7") == "OK"
    assert redis("config", "get", "maxmemory-policy").split() == ["maxmemory-policy", "noeviction"]
    assert pair.stop("redis") == 0
    pair.start("redis")
    assert redis("get", "gatehouse:v1:{l}:bucket") == "7"
