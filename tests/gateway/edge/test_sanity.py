"""What means nothing, at the paths of each dialect: refused in that dialect's words, and quietly. `python -m loadtests
drill bad-input` tells how soon."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.sanity import verdict
from loadtests.nonsense import requests
from tests.gateway.edge.test_attacks import say
from tests.running import KEY, gateway, policies
from tests.scripted import Provider

PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/smart:generateContent",
}


def is_worded_as(dialect: str, told: Any) -> bool:
    """Whether an error is one of this dialect's, with all that its SDK reads."""
    error = told["error"]
    if dialect == "openai":
        return set(error) == {"message", "type", "param", "code"} and bool(error["message"])
    if dialect == "anthropic":
        return told["type"] == "error" and {"type", "message"} <= set(error) and "request_id" in told
    return error["code"] == 400 and error["status"] == "INVALID_ARGUMENT" and bool(error["message"])


@pytest.mark.parametrize("dialect", PATHS)
async def test_nonsense_is_a_clean_4xx_in_the_callers_words_and_writes_no_line_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], dialect: str
) -> None:
    worded, well = set(), 0
    async with Provider() as provider, gateway(tmp_path, policies(provider.url), log_level="debug") as one:
        for name, raw in requests(one.port, KEY, PATHS[dialect]):
            if dialect == "gemini" and "model" in name:
                continue  # there the model is in the path
            told = await say(one.port, raw)
            assert told.status == (431 if name == "a key of 1 MB" else 400), name
            assert len(told.head) + len(told.body) < 2000, f"{name}: nothing of it is sent back"
            if b"application/json" in told.head:  # else it is a fault of HTTP itself
                assert is_worded_as(dialect, json.loads(told.body)), f"{name}: {told.body!r}"
                worded.add(name)
            assert (await one.chat()).status_code == 200, f"after {name}"
            well += 1
        assert len(provider.asked) == well, "none of it went out"
    assert worded >= {"malformed JSON", "JSON 100,000 deep"}
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert lines
    assert max(len(json.dumps(line)) for line in lines) < 2000


def scope(
    *headers: tuple[bytes, bytes],
    path: bytes = b"/v1/models",
    host: bytes | None = b"a.test",
    version: str = "1.1",
) -> Any:
    lines = [(b"host", host)] if host is not None else []
    return {"raw_path": path, "headers": [*lines, *headers], "http_version": version}


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (scope(), 0),
        (scope((b"x-a", b"1"), (b"x-a", b"2")), 0),
        (scope((b"host", b"b.test")), 400),
        (scope(host=b"a.test/x"), 400),
        (scope(host=b"ai_gateway:8080"), 0),
        (scope(host=None), 400),
        (scope(host=b""), 400),
        (scope(host=None, version="1.0"), 0),
        (scope(host=b"", version="1.0"), 400),
        (scope((b"host", b"b.test"), version="1.0"), 400),
        (scope((b"authorization", b"a"), (b"authorization", b"b")), 400),
        (scope((b"transfer-encoding", b"chunked")), 0),
        (scope((b"transfer-encoding", b"chunked"), (b"content-length", b"1")), 400),
        (scope((b"transfer-encoding", b"gzip, chunked")), 400),
        (scope((b"x-a", b"b\rc")), 400),
        (scope((b"x-a", b"b\tc")), 0),
        (scope(path=b"/v1/../x"), 400),
        (scope(path=b"/v1/..x"), 0),
        (scope(path=b"/v1/%2E%2E/x"), 400),
        (scope(path=b"/v1//x"), 400),
        (scope(path=b"/v1/models/meta%2Fllama"), 0),
        (scope(path=b"/v1/models/..%2Fllama"), 400),
        (scope(path=b"/v1/files/meta%2Fllama"), 400),
        (scope(*((f"x-{n}".encode(), b"") for n in range(201))), 431),
        (scope((b"x-a", b"a" * (64 << 10))), 431),
    ],
)
def test_a_head_is_judged_by_itself(asked: Any, status: int) -> None:
    assert verdict(asked) == status


def test_a_list_in_several_lines_is_one_list() -> None:
    asked = scope((b"openai-beta", b"a=v1"), (b"x", b"1"), (b"openai-beta", b"b=v2"))
    assert verdict(asked) == 0
    assert asked["gateway.head"] == {b"host": b"a.test", b"openai-beta": b"a=v1, b=v2", b"x": b"1"}
