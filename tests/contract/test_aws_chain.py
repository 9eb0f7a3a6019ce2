"""The places of keys to AWS in the order of botocore's own resolver, which is asked about the same files and variables.

What needs a network botocore puts off until it signs, so that it says where it would look without looking.
"""

import json
from hashlib import sha1
from itertools import pairwise
from pathlib import Path

import pytest
from botocore.credentials import create_credential_resolver
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from botocore.utils import JSONFileCache, SSOTokenLoader

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Command, StepResult, Unobtainable, WriteFile
from gateway.core.meters import Meters
from gateway.providers.aws.chain import AwsChain
from gateway.upstream.client import Upstream
from gateway.upstream.credentials import Credentials
from tests.gateway.providers.aws.world import World
from tests.scripted import Provider, answer

ROLE = "role_arn = arn:aws:iam::1:role/r\n"
KEYS = "aws_access_key_id = {0}\naws_secret_access_key = s\n"
ENVIRON = {
    "environment": {"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "s"},
    "identity": {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/e"},
}
CONFIG = {
    "role": ROLE + "source_profile = base\n",
    "own identity": ROLE + "web_identity_token_file = /token\n",
    "sso": "sso_session = corp\nsso_account_id = 1\nsso_role_name = R\n",
    "process": "credential_process = cat {folder}/written\n",
    "config": KEYS.format("CONFIG"),
}
CREDENTIALS = {"credentials": KEYS.format("CREDENTIALS")}
OTHERS = f"""
[profile base]
{KEYS.format("BASE")}
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://corp.awsapps.com/start
"""
SIGNED_ON = '{"accessToken":"a","expiresAt":"2099-01-01T00:00:00Z"}'
WRITTEN = '{"Version": 1, "AccessKeyId": "RUN", "SecretAccessKey": "s"}'
PORTAL = b'{"roleCredentials":{"accessKeyId":"A","secretAccessKey":"s","sessionToken":"t","expiration":1}}'
ENDING = {
    "accessToken": "a", "expiresAt": "2025-11-25T10:05:00Z", "refreshToken": "r", "clientId": "i",
    "clientSecret": "s", "registrationExpiresAt": "2026-02-20T00:00:00Z",
}  # fmt: skip
# What botocore calls them.
METHODS = {
    "env": "environment", "assume-role": "role", "assume-role-with-web-identity": "identity", "sso": "sso",
    "shared-credentials-file": "credentials", "custom-process": "process", "config-file": "config",
}  # fmt: skip
ALL = ["environment", "role", "identity", "own identity", "sso", "credentials", "process", "config"]
# Each place alone, beside the one before whom it comes, and all together.
SETS = [(), *((one,) for one in ALL), *pairwise(ALL), tuple(ALL)]
HOME = "/home/a"
TOKEN = f"{HOME}/.aws/sso/cache/{sha1(b'corp', usedforsecurity=False).hexdigest()}.json"


class Found(Exception):
    """Where keys are looked for first, beyond the files."""


class Looking(World):
    def _told(self, step: WireRequest | Command | WriteFile) -> StepResult:
        if isinstance(step, Command):
            raise Found("process")
        assert isinstance(step, WireRequest)
        if step.origin.host.startswith("portal.sso."):
            raise Found("sso")
        raise Found("identity" if b"WebIdentity" in bytes_of(step) else "role")


def bytes_of(wire: WireRequest) -> bytes:
    assert isinstance(wire.body, bytes)
    return wire.body


def theirs(chosen: str, environ: dict[str, str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        try:
            session = Session(profile=chosen or None)
            found = create_credential_resolver(session, region_name="eu-west-1").load_credentials()
        except BotoCoreError:
            return "refused"
    return METHODS[found.method] if found is not None else "nothing"


def ours(chosen: str, environ: dict[str, str], files: dict[str, str]) -> str:
    try:
        found = Looking(files).obtain(environ, AwsChain("eu-west-1", "bedrock", chosen))
    except Found as place:
        return str(place)
    except Unobtainable as refusal:
        return "nothing" if "looked everywhere" in str(refusal) else "refused"
    written: str = found.value.access_key
    return written.lower()


@pytest.mark.parametrize("way", ["default", "by AWS_PROFILE", "by name"])
def test_keys_are_looked_for_where_botocore_looks_for_them(tmp_path: Path, way: str) -> None:
    name = "default" if way == "default" else "mine"
    chosen = "mine" if way == "by name" else ""
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    (tmp_path / "written").write_text(WRITTEN)
    usual = {"AWS_EC2_METADATA_DISABLED": "true"} | (
        {"AWS_PROFILE": "mine"} if way == "by AWS_PROFILE" else {}
    )
    seen: set[str] = set()
    for some in SETS:
        head = "[default]" if name == "default" else "[profile mine]"
        told = "".join(CONFIG[one].format(folder=tmp_path) for one in some if one in CONFIG)
        once = "\n".join(dict.fromkeys(told.splitlines()))
        config.write_text(f"{head}\nregion = eu-west-1\n{once}\n{OTHERS}")
        credentials.write_text("".join(f"[{name}]\n{CREDENTIALS[one]}" for one in some if one in CREDENTIALS))
        environ = {key: value for one in some for key, value in ENVIRON.get(one, {}).items()} | usual
        paths = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
        files = {str(config): config.read_text(), str(credentials): credentials.read_text()}
        files |= {"/token": "jwt", TOKEN: SIGNED_ON}
        place = theirs(chosen, environ | paths)
        assert ours(chosen, environ | paths, files) == place, some
        seen.add(place)
    assert seen >= {*METHODS.values()} - ({"environment"} if chosen else set())


def test_a_token_that_we_renewed_is_one_that_botocore_reads(tmp_path: Path) -> None:
    world = World(
        {f"{HOME}/.aws/config": f"[default]\n{CONFIG['sso']}{OTHERS}", TOKEN: json.dumps(ENDING)},
        StepResult(200, b'{"accessToken":"b","expiresIn":3600,"refreshToken":"r2"}'),
        StepResult(200, PORTAL),
    )
    world.obtain()
    cache = JSONFileCache(str(tmp_path))
    (tmp_path / Path(TOKEN).name).write_text(world.files[TOKEN])
    found = SSOTokenLoader(cache)("https://corp.awsapps.com/start", session_name="corp")
    assert found == {
        **ENDING, "accessToken": "b", "refreshToken": "r2", "expiresAt": "2025-11-25T11:00:00Z",
        "startUrl": "https://corp.awsapps.com/start", "region": "eu-west-1",
    }  # fmt: skip


async def test_a_sign_on_is_renewed_over_real_sockets_and_files(tmp_path: Path) -> None:
    cache = tmp_path / TOKEN.removeprefix(f"{HOME}/")
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({**ENDING, "registrationExpiresAt": "2999-01-01T00:00:00Z"}))
    (tmp_path / ".aws" / "config").write_text(f"[default]\n{CONFIG['sso']}{OTHERS}")
    renewed = answer(b'{"accessToken":"b","expiresIn":3600,"refreshToken":"r2"}')
    async with Provider([renewed, answer(PORTAL.replace(b":1}", b":32503680000000}"))]) as provider:
        at = provider.url.removesuffix("/v1")
        environ = {"HOME": str(tmp_path), "AWS_ENDPOINT_URL_SSO_OIDC": at, "AWS_ENDPOINT_URL_SSO": at}
        upstream = Upstream()
        kept = Credentials(upstream, environ, lambda: 1764064800.0, Meters(), lambda level, message: None)
        wire = WireRequest(Origin("https", "h", 443), b"POST / HTTP/1.1\r\nhost: h\r\n", b"{}", 2)
        shown = await kept.wait(AwsChain("eu-west-1", "bedrock"), wire)
        await kept.aclose()
        await upstream.aclose()
        assert b"Credential=A/" in shown.head
        oidc, portal = provider.asked
        assert (oidc.line, oidc.json["grantType"]) == ("POST /token HTTP/1.1", "refresh_token")
        assert portal.headers["x-amz-sso_bearer_token"] == "b"
    assert (json.loads(cache.read_text())["refreshToken"], cache.stat().st_mode & 0o777) == ("r2", 0o600)
