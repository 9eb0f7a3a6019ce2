"""Lists show a team its own objects, page by page, and nothing of anybody else's."""

from pathlib import Path
from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.edge.listing import MOST_PAGES, Query
from tests.gateway.edge.teams import ALL, COLLECTIONS, POOR, made, text
from tests.running import gateway
from tests.scripted import Provider, answer


def page(*ids: str, more: bool = False, **other: Any) -> dict[str, Any]:
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": [{"id": one} for one in ids], "has_more": more, **ends, **other}


def ids(listed: Any) -> list[str]:
    return [one["id"] for one in listed["data"]]


async def test_every_kind_of_list_shows_each_team_its_own(tmp_path: Path) -> None:
    """Takes over a second: 15 kinds of lists, two teams each."""
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        for path in COLLECTIONS:
            await made(running, provider, path, "obj_1")
            provider.script[:] = [answer(page("theirs", "obj_1", "x"))]
            async with running.client() as owner, running.client(POOR) as other:
                mine = (await owner.get(path)).json()
                assert (ids(mine), mine["first_id"], mine["last_id"]) == (["obj_1"], "obj_1", "obj_1")
                theirs = (await other.get(path)).json()
                assert (theirs["data"], theirs["first_id"], theirs["has_more"]) == ([], None, False)
                provider.script[:] = [answer({"id": "obj_1"})]
                await owner.delete(f"{path}/obj_1")


async def test_a_list_is_filled_from_as_many_pages_as_it_takes(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        for ident in ("file-1", "file-2"):
            await made(running, provider, "/v1/files", ident)
        provider.asked.clear()
        pages = [page("x", "file-1", more=True), page("y", "z", more=True), page("file-2", "w", more=True)]
        provider.script[:] = [answer(one) for one in pages]
        async with running.client() as client:
            listed = (await client.get("/v1/files?purpose=batch&limit=2&order=asc")).json()
        assert (ids(listed), listed["has_more"]) == (["file-1", "file-2"], True)
        assert (listed["first_id"], listed["last_id"]) == ("file-1", "file-2")
        assert [one.line.split()[1] for one in provider.asked] == [
            "/v1/files?purpose=batch&limit=2&order=asc",
            "/v1/files?purpose=batch&order=asc&limit=100&after=file-1",
            "/v1/files?purpose=batch&order=asc&limit=100&after=z",
        ]


async def test_no_more_than_was_asked_for_is_given(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        for ident in ("a", "b", "c"):
            await made(running, provider, "/v1/files", ident)
        provider.script[:] = [answer(page("x", more=True)), answer(page("a", "b", "c"))]
        async with running.client() as client:
            listed = (await client.get("/v1/files?limit=2")).json()
        assert (ids(listed), listed["has_more"]) == (["a", "b"], True)


async def test_the_search_for_a_teams_own_ends(tmp_path: Path) -> None:
    async with Provider([answer(page("x", more=True))]) as provider:
        async with gateway(tmp_path, text(provider.url)) as running, running.client() as client:
            listed = (await client.get("/v1/batches")).json()
        assert (listed["data"], listed["has_more"]) == ([], True), "it says that it did not see the end"
        assert len(provider.asked) == 1 + MOST_PAGES


async def test_a_list_that_is_all_the_teams_own_passes_untouched(tmp_path: Path) -> None:
    raw = b'{ "data": [ {"id":"file-1", "x": 1.0} ],"has_more":false}'
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        provider.script[:] = [answer(raw)]
        async with running.client() as client:
            assert (await client.get("/v1/files")).content == raw


@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_cursors_must_be_the_teams_own(tmp_path: Path, cursor: str) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        provider.script[:] = [answer(page("file-1"))]
        async with running.client() as owner, running.client(POOR) as other:
            assert (await owner.get(f"/v1/files?{cursor}=file-1")).status_code == 200
            assert (await other.get(f"/v1/files?{cursor}=file-1")).status_code == 404
            assert (await owner.get(f"/v1/files?{cursor}=unknown")).status_code == 404
            assert (await owner.get(f"/v1/files?{cursor}=file-1&{cursor}=file-1")).status_code == 400


@pytest.mark.parametrize("body", [b"[]", b"not json", b'{"data": {}}', b'{"data": [' + b" " * (17 << 20)])
async def test_what_cannot_be_filtered_is_not_shown(tmp_path: Path, body: bytes) -> None:
    async with Provider([answer(body)]) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            response = await client.get("/v1/files")
        assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")


async def test_a_further_page_that_fails_is_an_error_and_no_short_list(tmp_path: Path) -> None:
    acts = [answer(page("x", more=True)), answer({"error": {}}, 400)]
    async with Provider(acts) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            assert (await client.get("/v1/files")).status_code == 502


async def test_files_of_a_listed_batch_can_be_used(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/batches", "batch_1")
        listed = page("batch_1")
        listed["data"][0]["output_file_id"] = "file-out"
        listed["data"].append({"id": "theirs", "output_file_id": "file-theirs"})
        provider.script[:] = [answer(listed)]
        async with running.client() as client:
            await client.get("/v1/batches")
            assert (await client.get("/v1/files/file-out")).status_code == 200
            assert (await client.get("/v1/files/file-theirs")).status_code == 404


def test_a_limit_of_any_length_is_the_most() -> None:
    assert Query(b"limit=" + b"9" * 5000).limit == 10_000


def test_going_backwards_the_first_object_leads_on() -> None:
    query = Query(b"before=a&limit=0&x=%20")
    assert query.limit is None
    assert query.further({"data": [{"id": "b"}, {"id": "c"}]}) == "x=+&limit=100&before=b"
    with pytest.raises(BadRequest):
        Query(b"limit=1&limit=2")
