"""The admin API on a whole gateway: who may what, keys from making to revoking, usage, targets, policies."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admin.routes import TABLE, Entry, application
from tests.running import Running, gateway, plain_client, policies
from tests.scripted import Provider

V1 = "/admin/v1"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with (
        Provider() as provider,
        gateway(tmp_path, policies(provider.url), metrics_token="a-metrics-token") as one,
    ):
        yield one


def error_of(answer: httpx.Response) -> Any:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def ask(client: httpx.AsyncClient, entry: Entry, token: str) -> httpx.Response:
    path = entry.path.replace("{name}", "nobody")
    return await client.request(entry.method, path, headers=bearer(token) if token else {}, content=b"{}")


async def test_every_route_opens_to_its_role_alone(running: Running) -> None:
    async with plain_client(running.admin_url) as client:
        for entry in TABLE:
            for token in ("", "wrong", "a-metrics-token", running.token):
                answer = await ask(client, entry, token)
                told = f"{entry.method} {entry.path} with {token or 'no token'}"
                # The tests ask from loopback, where metrics take no token.
                if token == running.token or entry.role in ("open", "metrics"):
                    assert answer.status_code not in (401, 403), told
                elif token == "a-metrics-token":
                    assert (answer.status_code, error_of(answer)["code"]) == (403, "role_not_allowed"), told
                else:
                    code = "invalid_admin_token" if token else "missing_admin_token"
                    assert (answer.status_code, error_of(answer)["code"]) == (401, code), told
                assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_team_may_be_called_whatever_a_policy_file_calls_it(tmp_path: Path) -> None:
    more = '---\nkind: access\nteams: {"data science / über": {models: [smart]}}'
    async with Provider() as provider, gateway(tmp_path, policies(provider.url, more=more)) as running:
        async with running.admin() as admin:
            asked = {"name": "ci", "team": "data science / über"}
            made = await admin.post(f"{V1}/keys", json=asked)
            assert made.status_code == 201
            assert await served(running, made.json()["key"]) == 200
            [row] = [row for row in (await admin.get(f"{V1}/keys")).json()["keys"] if row["name"] == "ci"]
            assert row["team"] == asked["team"]


async def test_metrics_take_a_token_from_everywhere_but_this_machine(running: Running) -> None:
    sent = ("", "Bearer wrong", "Basic d3Jvbmc=", "Bearer a-metrics-token")
    for host, statuses in (
        ("127.0.0.1", [200, 200, 200, 200]),
        ("::1", [200, 200, 200, 200]),
        ("::ffff:127.0.0.1", [200, 200, 200, 200]),
        ("::ffff:10.0.0.7", [401, 401, 401, 200]),
        ("10.0.0.7", [401, 401, 401, 200]),
    ):
        transport = httpx.ASGITransport(running.office.app, client=(host, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8081") as client:
            asked = [{"authorization": one} if one else {} for one in sent]
            answers = [await client.get("/metrics", headers=headers) for headers in asked]
        assert [answer.status_code for answer in answers] == statuses, host


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("LocalHost", 200),
        ("[::1]:8081", 200),
        ("evil.example:8081", 401),
        ("127.0.0.1.evil.example", 401),
        ("localhost.evil.example", 401),
    ],
)
async def test_a_page_whose_name_was_made_to_point_here_reads_no_metrics(
    running: Running, name: str, status: int
) -> None:
    async with plain_client(running.admin_url) as browser:
        answer = await browser.get("/metrics", headers={"host": name})
        assert (answer.status_code, b"gateway_requests_total" in answer.content) == (status, status == 200)
        named = await browser.get("/metrics", headers={"host": name, **bearer("a-metrics-token")})
        assert named.status_code == 200


async def test_a_database_that_is_away_is_told_on_both_ports_and_changes_no_status(running: Running) -> None:
    async with running.admin() as admin, running.client() as client, asyncio.timeout(20):
        await admin.post(f"{V1}/keys", json={"name": "ci", "team": "research"})
        with closing(sqlite3.connect(running.folder.parent / "data" / "gatehouse.db")) as database:
            database.execute("DROP TABLE keys")
        for port in (client, admin):
            while (answer := await port.get("/health/ready")).json()["degraded"] != ["sql"]:
                await asyncio.sleep(0.02)
            assert (answer.status_code, answer.json()["status"]) == (200, "ready")


async def test_a_key_lives_from_its_making_to_its_revocation(running: Running) -> None:
    async with running.admin() as admin:
        made = await admin.post(f"{V1}/keys", json={"name": "ci", "team": "research"})
        assert made.status_code == 201
        first = made.json()["key"]
        assert (await served(running, first)) == 200
        second = (await admin.post(f"{V1}/keys/ci/rotate")).json()["key"]
        assert (await served(running, first), await served(running, second)) == (401, 200)
        listed = (await admin.get(f"{V1}/keys")).text
        assert first not in listed
        assert second not in listed
        assert (await admin.delete(f"{V1}/keys/ci")).json() == {"name": "ci", "revoked": True}
        assert await served(running, second) == 401, "at once"
        rows = {row["name"]: row for row in (await admin.get(f"{V1}/keys")).json()["keys"]}
        assert (rows["ci"]["revoked"], rows["ci"]["source"]) == (True, "issued")
        assert rows["tester"]["source"] == "policies"


async def served(running: Running, key: str) -> int:
    async with running.client(key) as client:
        return (await client.get("/v1/models")).status_code


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("POST", "/keys", {"name": "a"}, 400, "team"),
        ("POST", "/keys", {"name": "a", "team": "nobody"}, 400, "team"),
        ("POST", "/keys", {"name": "tester", "team": "research"}, 409, "name"),
        ("POST", "/keys", {"name": "a\nb", "team": "research"}, 400, "name"),
        *(
            ("POST", "/keys", {"name": name, "team": "research"}, 400, "name")
            for name in ("", ".", "..", "a/b", "a?b", "a%b", "a b", "a\0", "a\n", "a" * 129)
        ),
        ("POST", "/keys", {"name": "a", "team": "research", "expires": "soon"}, 400, "expires"),
        ("POST", "/keys", {"name": "a", "team": "research", "admin": True}, 400, "admin"),
        ("POST", "/keys", ["a"], 400, None),
        ("DELETE", "/keys/nobody", None, 404, None),
        ("POST", "/keys/nobody/rotate", None, 404, None),
        ("GET", "/usage?by=colour", None, 400, "by"),
        ("GET", "/usage?since=yesterday", None, 400, "since"),
        ("GET", f"/usage?since={'9' * 400}d", None, 400, "since"),
        ("GET", "/usage?group=team", None, 400, "group"),
        ("POST", "/targets/drain", {"target": 5}, 400, "target"),
        ("POST", "/targets/drain", {"target": "zz"}, 404, "target"),
        ("POST", "/targets/undrain", {"target": "p0/nothing"}, 404, "target"),
        ("POST", "/policies/check", {"files": {"a.yaml": 5}}, 400, "files.a.yaml"),
        ("POST", "/policies/explain", {"team": "research"}, 400, "model"),
        ("POST", "/policies/explain", {"model": "smart"}, 400, "team"),
        ("POST", "/policies/explain", {"team": "research", "key": "tester", "model": "smart"}, 400, "team"),
        ("POST", "/policies/explain", {"team": "reserch", "model": "smart"}, 400, "team"),
        ("POST", "/policies/explain", {"key": "nobody", "model": "smart"}, 400, "key"),
        ("POST", "/keys", {"name": "a", "team": "research", "expires": "2020-01-01"}, 400, "expires"),
        ("PUT", "/keys", {}, 404, None),
        ("GET", "/nothing", None, 404, None),
    ],
)
async def test_wrong_use_is_told_with_the_field(
    running: Running, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    async with running.admin() as admin:
        answer = await admin.request(method, V1 + path, json=body)
    assert (answer.status_code, error_of(answer)["param"]) == (status, param), answer.text
    assert error_of(answer)["message"]


@pytest.mark.parametrize(("method", "act"), [("DELETE", ""), ("POST", "/rotate")])
async def test_a_key_of_the_policies_is_changed_there(running: Running, method: str, act: str) -> None:
    async with running.admin() as admin:
        answer = await admin.request(method, f"{V1}/keys/tester{act}")
    assert (answer.status_code, error_of(answer)["message"]) == (
        409,
        'the key "tester" stands in the policies; change it there',
    )


async def test_what_was_issued_is_revoked_though_the_policies_have_its_name_now(running: Running) -> None:
    async with running.admin() as admin:
        key = (await admin.post(f"{V1}/keys", json={"name": "ci", "team": "research"})).json()["key"]
        text = (running.folder / "gateway.yaml").read_text().replace("name: poor", "name: ci")
        (running.folder / "gateway.yaml").write_text(text)
        await admin.post(f"{V1}/policies/reload")
        assert (await admin.delete(f"{V1}/keys/ci")).status_code == 200
        assert await served(running, key) == 401
        assert (await admin.delete(f"{V1}/keys/ci")).status_code == 409


async def test_a_name_that_is_taken_is_a_conflict(running: Running) -> None:
    async with running.admin() as admin:
        answers = [await admin.post(f"{V1}/keys", json={"name": "ci", "team": "research"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 409]
    assert error_of(answers[1])["code"] == "conflict"


async def test_usage_is_told_by_what_is_asked(running: Running) -> None:
    for model in ("smart", "smart", "mini"):
        assert (await running.chat(model)).status_code == 200
    async with running.admin() as admin:
        told = (await admin.get(f"{V1}/usage?by=team,model&since=1h")).json()
    rows = {(row["team"], row["model"]): row for row in told["rows"]}
    assert rows["research", "smart"]["calls"] == 2
    assert (rows["research", "smart"]["prompt_tokens"], rows["research", "mini"]["completion_tokens"]) == (
        14,
        3,
    )
    assert (told["total"]["calls"], told["total"]["estimated"]) == (3, 0)
    async with running.admin() as admin:
        twice = (await admin.get(f"{V1}/usage?by=team,model,team&since=1h")).json()
    assert twice == told


async def test_a_target_that_is_drained_is_passed_over_until_it_is_back(running: Running) -> None:
    async with running.admin() as admin:
        assert (await running.chat()).headers["x-gateway-target"] == "p0/smart"
        names = [row["target"] for row in (await admin.get(f"{V1}/targets")).json()["targets"]]
        assert "p0/smart" in names
        assert (await admin.post(f"{V1}/targets/drain", json={"target": "p0/smart"})).status_code == 200
        away = await running.chat()
        assert (away.status_code, away.json()["error"]["code"]) == (503, "no_target")
        await admin.post(f"{V1}/targets/undrain", json={"target": "p0/smart"})
        assert (await running.chat()).status_code == 200


async def test_a_target_may_be_drained_before_it_is_called_and_once_it_is_gone(running: Running) -> None:
    async with running.admin() as admin:
        for target in ("p0/smart", "p0/*"):
            assert (await admin.post(f"{V1}/targets/drain", json={"target": target})).status_code == 200
        file = running.folder / "gateway.yaml"
        file.write_text(file.read_text().replace("smart:", "clever:"))
        assert (await admin.post(f"{V1}/policies/reload")).json()["problems"] == []
        near = error_of(await admin.post(f"{V1}/targets/drain", json={"target": "p0/smrt"}))
        assert (await admin.post(f"{V1}/targets/undrain", json={"target": "p0/smart"})).status_code == 200
    assert near["code"] == "target_not_found"
    assert near["message"] == (
        'there is no target "p0/smrt"; a target is written PROVIDER/MODEL, did you mean "p0/smart"?'
    )


async def test_a_database_that_fails_is_told_and_is_no_broken_gateway(running: Running) -> None:
    await running.house.keys.create("other", "research")
    with closing(sqlite3.connect(running.folder.parent / "data" / "gatehouse.db")) as database:
        database.execute("DROP TABLE keys")
    async with running.admin() as admin:
        answer = await admin.post(f"{V1}/keys", json={"name": "ci", "team": "research"})
    assert (answer.status_code, error_of(answer)["code"]) == (503, "database_unavailable")
    assert "(no such table: keys); see that it runs and has room" in error_of(answer)["message"]


async def test_a_key_made_at_run_time_is_explained_as_it_is_served(running: Running) -> None:
    asked = {"key": "ci", "model": "smart"}
    async with running.admin() as admin:
        await admin.post(f"{V1}/keys", json={"name": "ci", "team": "research"})
        why = (await admin.post(f"{V1}/policies/explain", json=asked)).json()
        assert (why["allowed"], why["team"]) == (True, "research")
        await running.house.keys.create("old", "research", 1.0)
        why = (await admin.post(f"{V1}/policies/explain", json=asked | {"key": "old"})).json()
        assert why["refused"]["message"] == 'the key "old" has expired'
        await admin.delete(f"{V1}/keys/ci")
        assert (await admin.post(f"{V1}/policies/explain", json=asked)).status_code == 400


async def test_what_is_only_explained_counts_no_failed_condition(tmp_path: Path) -> None:
    odd = "if: metadata.gone == 'x'"
    rule = f"kind: rate-limits\nrules: [{{id: odd, limit: 9, unit: requests, per: day, {odd}}}]"
    more = f'kind: access\nteams: {{shut: {{models: ["*"], {odd}}}}}\n---\n{rule}'
    async with Provider() as provider:
        text = policies(provider.url, more=more).replace("{provider: p0}]", f"{{provider: p0, {odd}}}]")
        async with gateway(tmp_path, text) as running, running.admin() as admin:
            for team, code in (("research", "no_target"), ("shut", "access_denied")):
                why = await admin.post(f"{V1}/policies/explain", json={"team": team, "model": "smart"})
                assert why.json()["refused"]["code"] == code
            assert "gateway_policy_eval_errors_total{" not in await running.metrics()
            assert (await running.chat()).json()["error"]["code"] == "no_target"
            counted = await running.metrics()
    for rule in ("models.smart", "odd"):
        assert f'gateway_policy_eval_errors_total{{rule="{rule}"}} 1' in counted


async def test_what_breaks_inside_is_told_in_the_shape_of_errors(running: Running) -> None:
    async def broken() -> list[dict[str, Any]]:
        raise ZeroDivisionError

    app = application(replace(running.office._office, targets=broken))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = bearer(running.token)
    async with httpx.AsyncClient(transport=transport, base_url="http://admin", headers=headers) as client:
        answer = await client.get(f"{V1}/targets")
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")


async def test_policies_are_told_tried_explained_and_loaded(running: Running) -> None:
    async with running.admin() as admin:
        version = (await admin.get(f"{V1}/policies")).json()["version"]
        tried = (await admin.post(f"{V1}/policies/check", json={"files": {"a.yaml": "kind: nope"}})).json()
        assert tried["ok"] is False
        assert tried["problems"][0].startswith("a.yaml:1:7: kind: ")
        why = (await admin.post(f"{V1}/policies/explain", json={"team": "free", "model": "smart"})).json()
        assert "model_not_allowed" in str(why)
        file = running.folder / "gateway.yaml"
        file.write_text(file.read_text().replace("mini:", "maxi:").replace("[mini]", "[maxi]"))
        after = (await admin.post(f"{V1}/policies/reload")).json()
        assert after["version"] != version
        assert {row["name"]: row["models"] for row in (await admin.get(f"{V1}/teams")).json()["teams"]} == {
            "research": ["maxi", "smart"],
            "free": ["maxi"],
        }
