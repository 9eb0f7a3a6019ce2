"""Who has signed on with Amazon's tools gets keys, and goes on doing so while the sign-on can be renewed."""

import hashlib
import json

import pytest

from gateway.core.address import Origin
from gateway.core.credential import StepResult, Unobtainable
from tests.gateway.providers.aws.world import CONFIG, HOUR, World

SSO = """
[profile dev]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = Reader Role
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://corp.awsapps.com/start
[profile old]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 1
sso_role_name = R
[profile torn]
sso_session = corp
sso_role_name = R
[profile lost]
sso_session = gone
sso_role_name = R
[profile other]
sso_session = corp
sso_region = us-east-1
sso_role_name = R
"""
CACHE = "/home/a/.aws/sso/cache/"  # files by the SHA-1 of the session's name or of the address
PORTAL = (
    b'{"roleCredentials":{"accessKeyId":"AKI","secretAccessKey":"s","sessionToken":"t",'
    b'"expiration":1764068400000}}'
)


def cached(of: str, ends: str = "2025-11-25T10:30:00Z") -> dict[str, str]:
    name = hashlib.sha1(of.encode(), usedforsecurity=False).hexdigest()
    return {f"{CACHE}{name}.json": f'{{"accessToken":"signed-on","expiresAt":"{ends}"}}'}


@pytest.mark.parametrize(("profile", "of"), [("dev", "corp"), ("old", "https://corp.awsapps.com/start")])
def test_who_has_signed_on_gets_the_keys_of_a_role(profile: str, of: str) -> None:
    world = World({CONFIG: SSO, **cached(of)}, StepResult(200, PORTAL))
    assert world.obtain({"AWS_PROFILE": profile}) == HOUR
    [asked] = world.asked
    assert asked.origin == Origin("https", "portal.sso.eu-west-1.amazonaws.com", 443)
    assert b"x-amz-sso_bearer_token: signed-on\r\n" in asked.head
    role = {"dev": "role_name=Reader+Role&account_id=123456789012", "old": "role_name=R&account_id=1"}[
        profile
    ]
    assert world.lines == [f"GET /federation/credentials?{role}"]


@pytest.mark.parametrize(
    "files",
    [
        {},
        cached("corp", "2025-11-25T09:59:00Z"),
        cached("corp", "2025-11-25T09:59:00UTC"),
        cached("corp", "?"),
    ],
)
def test_a_sign_on_that_has_ended_is_told_with_what_to_run(files: dict[str, str]) -> None:
    with pytest.raises(Unobtainable, match="its sign-on has ended; run aws sso login --profile dev"):
        World({CONFIG: SSO, **files}).obtain({"AWS_PROFILE": "dev"})


def test_what_a_sign_on_lacks_and_what_the_portal_refuses_is_told() -> None:
    for profile, why in (
        ("torn", "sso_account_id is missing"),
        ("lost", "there is no sso-session 'gone'"),
        ("other", "its sso_region is another one than its sso-session's"),
    ):
        with pytest.raises(Unobtainable, match=f"profile '{profile}': {why}"):
            World({CONFIG: SSO}).obtain({"AWS_PROFILE": profile})
    with pytest.raises(Unobtainable, match="no keys of profile 'dev', role Reader Role: status 403"):
        World({CONFIG: SSO, **cached("corp")}, StepResult(403, b"{}")).obtain({"AWS_PROFILE": "dev"})


REGISTERED = {
    "refreshToken": "refresh-1", "clientId": "id", "clientSecret": "registered",
    "registrationExpiresAt": "2026-02-20T00:00:00Z",
}  # fmt: skip
RENEWED = b'{"accessToken":"renewed","tokenType":"Bearer","expiresIn":28800,"refreshToken":"refresh-2"}'


def ending(minute: int, of: str = "corp", **more: str) -> dict[str, str]:
    """A cached token that ends at 10:MM, and can be renewed."""
    [(path, text)] = cached(of, f"2025-11-25T10:{minute:02}:00Z").items()
    return {path: json.dumps({**json.loads(text), **REGISTERED, **more})}


@pytest.mark.parametrize("minute", [0, 14])
def test_a_token_that_ends_soon_is_renewed_and_left_in_the_cache_for_others(minute: int) -> None:
    files = {CONFIG: SSO, **ending(minute)}
    world = World(files, StepResult(200, RENEWED), StepResult(200, PORTAL))
    assert world.obtain({"AWS_PROFILE": "dev"}) == HOUR
    renewal, keys = world.asked
    body, _ = world.bodies
    assert renewal.origin == Origin("https", "oidc.eu-west-1.amazonaws.com", 443)
    assert renewal.head.startswith(b"POST /token HTTP/1.1\r\n")
    assert b"content-type: application/json\r\n" in renewal.head
    assert json.loads(body) == {
        "grantType": "refresh_token", "clientId": "id", "clientSecret": "registered", "refreshToken": "refresh-1"
    }  # fmt: skip
    assert b"x-amz-sso_bearer_token: renewed\r\n" in keys.head
    [path] = cached("corp")
    assert json.loads(files[path]) == {
        "startUrl": "https://corp.awsapps.com/start", "region": "eu-west-1", "accessToken": "renewed",
        "expiresAt": "2025-11-25T18:00:00Z", **REGISTERED, "refreshToken": "refresh-2",
    }  # fmt: skip


def test_a_token_that_is_good_for_long_is_left_alone() -> None:
    world = World({CONFIG: SSO, **ending(16)}, StepResult(200, PORTAL))
    assert world.obtain({"AWS_PROFILE": "dev"}) == HOUR
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        (ending(10), StepResult(400, b'{"error":"invalid_grant"}')),
        (ending(10), StepResult(200, b'{"accessToken":"x"}')),
        (ending(10), StepResult(0, b"no route")),
        (ending(10, registrationExpiresAt="2025-11-25T09:00:00Z"), None),
        (cached("corp", "2025-11-25T10:10:00Z"), None),
    ],
)
def test_where_a_token_cannot_be_renewed_the_rest_of_its_time_is_used(
    cache: dict[str, str], told: StepResult | None
) -> None:
    world = World({CONFIG: SSO, **cache}, *([told] if told else []), StepResult(200, PORTAL))
    assert world.obtain({"AWS_PROFILE": "dev"}) == HOUR
    assert b"x-amz-sso_bearer_token: signed-on\r\n" in world.asked[-1].head
    with pytest.raises(Unobtainable, match="its sign-on has ended"):
        World({CONFIG: SSO, **ending(0)}, StepResult(400, b"{}")).obtain({"AWS_PROFILE": "dev"})


def test_a_renewal_that_gives_no_next_one_is_the_last_and_the_older_way_has_none() -> None:
    files = {CONFIG: SSO, **ending(5)}
    once = StepResult(200, RENEWED.replace(b',"refreshToken":"refresh-2"', b""))
    World(files, once, StepResult(200, PORTAL)).obtain({"AWS_PROFILE": "dev"})
    [path] = cached("corp")
    assert "refreshToken" not in json.loads(files[path])
    old = World({CONFIG: SSO, **ending(5, "https://corp.awsapps.com/start")}, StepResult(200, PORTAL))
    assert old.obtain({"AWS_PROFILE": "old"}) == HOUR


def test_elsewhere_and_in_china_other_addresses_are_asked() -> None:
    config = {CONFIG: SSO.replace("eu-west-1", "cn-north-1"), **ending(5)}
    world = World(dict(config), StepResult(200, RENEWED), StepResult(200, PORTAL))
    world.obtain({"AWS_PROFILE": "dev"})
    hosts = [wire.origin.host for wire in world.asked]
    assert hosts == ["oidc.cn-north-1.amazonaws.com.cn", "portal.sso.cn-north-1.amazonaws.com.cn"]
    own = {"AWS_ENDPOINT_URL_SSO_OIDC": "http://o.test", "AWS_ENDPOINT_URL_SSO": "http://p.test"}
    world = World(dict(config), StepResult(200, RENEWED), StepResult(200, PORTAL))
    world.obtain({"AWS_PROFILE": "dev", **own})
    assert [wire.origin.host for wire in world.asked] == ["o.test", "p.test"]
