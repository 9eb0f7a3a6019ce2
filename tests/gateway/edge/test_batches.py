"""A batch may ask for what its team may ask for, line by line."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.config.snapshot import Team
from gateway.core.failure import BadRequest, Forbidden, GatewayError, NotFound
from gateway.edge.batches import MOST_LINE, check_lines
from gateway.edge.ownership import Ownership
from gateway.state.database import Database
from gateway.state.owners import Owners
from gateway.wire.fields import MOST_MARKS
from tests.gateway.edge.teams import LINE, POOR, made, text
from tests.running import gateway
from tests.scripted import Provider, answer

TEAM = Team("red", lambda model: model.startswith("gpt-"))


async def check(tmp_path: Path, body: bytes, size: int = 50, team: Team = TEAM) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    database = Database(f"sqlite:///{tmp_path}/owners.db")
    try:
        ownership = Ownership(Owners(database, lambda: 0.0))
        await ownership.remember(["file-red"], "red", "p", "files")
        await ownership.remember(["file-blue"], "blue", "p", "files")
        await check_lines(pieces(), team, ownership)
    finally:
        database.close()


def line(**body: object) -> bytes:
    return orjson.dumps({"custom_id": "x", "body": body}) + b"\n"


async def test_lines_within_the_teams_means_pass(tmp_path: Path) -> None:
    good = line(model="gpt-5", metadata={"id": "x"}) + b"\r\n\n" + line(model="gpt-4", file_id="file-red")
    await check(tmp_path, good)
    await check(tmp_path, good.rstrip())
    await check(tmp_path, b"")


@pytest.mark.parametrize(
    ("bad", "error", "place"),
    [
        (line(model="secret"), Forbidden, "line 2 "),
        (line(model="gpt-5").replace(b"gpt-5", b"secr\\u0065t"), Forbidden, "line 2 "),
        (b'{"body": {"model": "secret", "model": "gpt-5"}}', Forbidden, "line 2 "),
        (b'{"body": {"mod\\u0065l": "secret"}}', Forbidden, "line 2 "),
        (b'{"body": {"model": "secret"}, "body": {}}', Forbidden, "line 2 "),
        (b'{"body": {}, "body": {"model": "secret"}}', Forbidden, "line 2 "),
        (line(model="gpt-5", file_id="file-blue"), NotFound, "file-blue"),
        (line(model="gpt-5", file_id="unknown"), NotFound, "unknown"),
        (line(model="gpt-5", MODEL="secret"), BadRequest, "line 2 "),
        (b'{"body": {"model": "gpt-5"}, "BODY": {"model": "secret"}}', BadRequest, "line 2 "),
        (line(model="gpt-5", models=["gpt-4", "secret"]), Forbidden, "line 2 "),
        (line(model="gpt-5", api_base="http://127.0.0.1:1"), BadRequest, "line 2 "),
        (b"not json", BadRequest, "line 2 "),
        pytest.param(line(model="gpt-5", x=[0] * MOST_MARKS), BadRequest, "line 2 ", id="too many values"),
        (b'[\r{"body": {"model": "secret"}}\r]', BadRequest, "line 2 "),
        (line(input="hi"), BadRequest, "line 2 "),
        (line(metadata={"model": "gpt-5", "x": {"model": "gpt-5"}}), BadRequest, "line 2 "),
    ],
)
async def test_a_line_past_them_is_named(
    tmp_path: Path, bad: bytes, error: type[GatewayError], place: str
) -> None:
    for size in (7, 1 << 16):
        with pytest.raises(error) as refused:
            await check(tmp_path, line(model="gpt-5") + bad, size)
        assert place in refused.value.message


async def test_who_may_use_all_models_may_leave_them_to_the_provider(tmp_path: Path) -> None:
    await check(tmp_path, line(input="hi"), team=Team("red", lambda model: True))


async def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        await check(tmp_path, b" " * (MOST_LINE + 2), MOST_LINE + 1)


async def test_a_batch_goes_only_after_its_file_was_read(tmp_path: Path) -> None:
    policy = text("URL").replace('free: {models: ["*"]}', 'free: {models: ["gpt-5-mini"]}')
    async with Provider() as provider:
        async with gateway(tmp_path, policy.replace("URL", provider.url)) as running:
            await made(running, provider, "/v1/batches", "batch_1")
            assert [one.line.split()[1] for one in provider.asked] == [
                "/v1/files",
                "/v1/files/file-of-batch/content",
                "/v1/batches",
            ]
            async with running.client(POOR) as poor:
                provider.script[:] = [answer({"id": "file-poor"})]
                await poor.post("/v1/files", files={"file": ("a", b"x")})
                before = len(provider.asked)
                provider.script[:] = [answer(LINE, content_type="application/octet-stream")]
                refused = await poor.post("/v1/batches", json={"input_file_id": "file-poor"})
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
                assert len(provider.asked) == before + 1
                provider.script[:] = [answer({"error": {}}, 404)]
                assert (
                    await poor.post("/v1/batches", json={"input_file_id": "file-poor"})
                ).status_code == 502
                assert (await poor.post("/v1/batches", json={})).status_code == 400
                theirs = {"input_file_id": "file-of-batch"}
                assert (await poor.post("/v1/batches", json=theirs)).status_code == 404
            assert (await running.usage())["total"]["calls"] == 6
