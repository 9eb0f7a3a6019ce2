"""`gateway keys` and `gateway usage` against a gateway that runs, and against none."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.app.ledger_client import REPORT_SECONDS, START_SECONDS
from gateway.cli import usage
from gateway.cli.main import main
from tests.running import Running, gateway, policies
from tests.scripted import Provider


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as one:
        monkeypatch.setenv("GATEWAY_ADMIN_URL", one.admin_url)
        monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", one.token)
        yield one


async def run(*words: str) -> int:
    """In a thread: the gateway that answers lives in this loop."""
    return await asyncio.to_thread(main, list(words))


async def test_a_key_is_made_listed_put_anew_and_revoked(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("keys", "create", "--name", "ci", "--team", "research", "--expires", "2099-01-31") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert await run("keys", "list") == 0
    table = capsys.readouterr().out
    assert "ci" in table
    assert "2099-01-31" in table
    assert first not in table
    assert await run("keys", "rotate", "ci", "--json") == 0
    second = json.loads(capsys.readouterr().out)["key"]
    async with running.client(first) as old, running.client(second) as new:
        assert ((await old.get("/v1/models")).status_code, (await new.get("/v1/models")).status_code) == (
            401,
            200,
        )
        assert await run("keys", "revoke", "ci") == 0
        assert capsys.readouterr().out == 'key "ci" is revoked\n'
        assert (await new.get("/v1/models")).status_code == 401
    assert await run("keys", "list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["keys"]}
    assert (rows["ci"]["revoked"], rows["tester"]["revoked"]) == (True, False)


async def test_usage_is_a_table_or_json(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert (await running.chat()).status_code == 200
    assert await run("usage") == 0
    table = capsys.readouterr().out
    assert "research" in table
    assert "smart" in table
    assert "total" in table
    assert await run("usage", "--by", "", "--since", "1h", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"]["calls"] == 1
    assert await run("usage", "--by", "key,key") == 0
    assert "tester" in capsys.readouterr().out


async def test_a_model_that_a_caller_named_in_brackets_is_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        Provider() as provider,
        gateway(tmp_path, policies(provider.url).replace("smart:", '"*":')) as one,
    ):
        monkeypatch.setenv("GATEWAY_ADMIN_URL", one.admin_url)
        monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", one.token)
        assert (await one.chat("llama[/fp8]")).status_code == 200
        assert await run("usage", "--by", "model") == 0
    assert "│ llama[/fp8] │ 1 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["keys", "create", "--name", "tester", "--team", "research"], "stands in the policies"),
        (["keys", "revoke", "tester"], "stands in the policies"),
        (["keys", "rotate", "nobody"], "nobody"),
    ],
)
async def test_what_the_gateway_refuses_is_told_in_a_line(
    running: Running, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert await run(*words) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"gateway {words[0]}")
    assert complaint in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["keys", "create", "--name", "a", "--team", "nobody"], 'there is no team "nobody"'),
        (["keys", "create", "--name", "a", "--team", "research", "--expires", "soon"], "expires"),
        (["keys", "create", "--name", "a", "--team", "research", "--expires", ""], "expires"),
        (
            ["keys", "create", "--name", "a", "--team", "research", "--expires", "2020-01-01"],
            "lies in the past",
        ),
        (["keys", "create", "--name", "..", "--team", "research"], "take another name"),
        (["keys", "revoke", ".."], "take its id, from gateway keys list --json"),
        (["keys", "revoke", ""], "take its id, from gateway keys list --json"),
        (["keys", "revoke", "no/body"], "take its id, from gateway keys list --json"),
        (["usage", "--by", "colour"], "colour"),
        (["usage", "--since", "yesterday"], "since must be a span"),
    ],
)
async def test_what_cannot_be_asked_for_is_used_wrongly(
    running: Running, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert await run(*words) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert complaint in told.err


async def test_a_key_that_has_expired_is_listed_as_such_and_has_no_successor(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    await running.house.keys.create("old", "research", 1.0)
    assert await run("keys", "list") == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if "old" in line]
    assert "expired" in row
    assert await run("keys", "rotate", "old") == 1
    assert 'the key "old" has expired; revoke it, and make another of that name' in capsys.readouterr().err
    assert await run("keys", "revoke", "old") == 0
    assert await run("keys", "create", "--name", "old", "--team", "research") == 0


async def test_a_key_made_at_run_time_is_explained_until_it_is_revoked(
    running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(running.folder.parent / "data"))
    asked = ["explain", str(running.folder), "--key", "ci", "--model", "smart"]
    assert await run("keys", "create", "--name", "ci", "--team", "research") == 0
    capsys.readouterr()
    assert await run(*asked) == 0
    assert capsys.readouterr().out.startswith("allowed\nteam research, model smart")
    assert await run("keys", "revoke", "ci") == 0
    assert await run(*asked) == 2
    assert 'no key "ci" stands in the policy files' in capsys.readouterr().err


async def test_a_database_that_cannot_be_written_is_told(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    await running.house.keys.create("other", "research")
    with closing(sqlite3.connect(running.folder.parent / "data" / "gatehouse.db")) as database:
        database.execute("DROP TABLE keys")
    assert await run("keys", "create", "--name", "a", "--team", "research") == 1
    assert capsys.readouterr().err.startswith("gateway keys create: the database cannot be read or written (")


@pytest.mark.parametrize("token", ["wrong", "s3crét", "s3cr\udce9t"])
async def test_a_wrong_token_is_told(
    token: str, running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", token)
    assert await run("usage") == 1
    told = capsys.readouterr().err
    assert "this admin token is not valid; it is taken from GATEWAY_ADMIN_TOKEN, else from" in told


def test_a_report_is_waited_for_longer_than_the_gateway_makes_it() -> None:
    assert usage.LONGEST > REPORT_SECONDS + START_SECONDS


async def test_a_report_that_does_not_come_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(usage, "LONGEST", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GATEWAY_ADMIN_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(10):
            assert await run("usage") == 1
    assert "(ReadTimeout)" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://127.0.0.1:99999", ""])
@pytest.mark.parametrize("words", [["usage"], ["keys", "list"]])
def test_where_no_gateway_answers_it_is_told(
    capsys: pytest.CaptureFixture[str], words: list[str], url: str
) -> None:
    assert main([*words, "--admin-url", url]) == 1
    told = capsys.readouterr().err
    assert "is `gateway serve` running? --admin-url or GATEWAY_ADMIN_URL tells where" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["keys"], ["keys", "make"], ["keys", "create"], ["keys", "create", "--name", "a"], ["keys", "revoke"],
     ["usage", "extra"], ["usage", "--colour"], ["usage", "--by", "\udcff"], ["usage", "--since", "\udcff"],
     ["keys", "revoke", "\udcff"], ["keys", "create", "--name", "\udcff", "--team", "research"]],
)  # fmt: skip
def test_wrong_use_ends_with_two_and_how_to_use_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "usage: gateway" in capsys.readouterr().err
