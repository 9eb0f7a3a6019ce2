"""Where keys to AWS come from, in the order of Amazon's own SDKs."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Command, Credential, Told, Unobtainable
from gateway.providers.aws.chain import REREAD, AwsChain
from gateway.providers.aws.sigv4 import Keys

NOW = 1764064800.0  # 2025-11-25T10:00:00Z
JSON = b'{"AccessKeyId":"AKI","SecretAccessKey":"s","Token":"t","Expiration":"2025-11-25T11:00:00Z"}'
XML = (
    b"<AssumeRoleResponse><Credentials><AccessKeyId>AKI</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
    b"<SessionToken>t</SessionToken><Expiration>2025-11-25T11:00:00Z</Expiration></Credentials></AssumeRoleResponse>"
)
HOUR = Credential(Keys("AKI", "s", "t"), 3600.0)
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "e"}
NO_FILE = Told(404, b"No such file or directory")
NO_ANSWER = Told(0, b"no route to host")
CONFIG, CREDENTIALS = "/home/a/.aws/config", "/home/a/.aws/credentials"
CHAIN = AwsChain("eu-central-1", "bedrock")


class World:
    """Files and services, and what was asked of them in order."""

    def __init__(self, files: dict[str, str] | None = None, *answers: Told) -> None:
        self.files, self.answers = files or {}, list(answers)
        self.asked: list[WireRequest] = []
        self.run: list[str] = []

    def obtain(self, environ: dict[str, str] | None = None, source: AwsChain = CHAIN) -> Credential:
        steps = source.obtain(NOW, {"HOME": "/home/a", **(environ or {})})
        told: Any = None
        while True:
            try:
                step = steps.send(told)
            except StopIteration as end:
                found: Credential = end.value
                return found
            if isinstance(step, Path):
                text = self.files.get(str(step))
                told = NO_FILE if text is None else Told(200, text.encode())
            else:
                if isinstance(step, Command):
                    self.run.append(step.line)
                else:
                    self.asked.append(step)
                told = self.answers.pop(0) if self.answers else NO_ANSWER

    @property
    def lines(self) -> list[str]:
        return [wire.head.decode().split("\r\n")[0].removesuffix(" HTTP/1.1") for wire in self.asked]


def test_keys_of_the_environment_come_first() -> None:
    world = World({CREDENTIALS: "[default]\naws_access_key_id=F\naws_secret_access_key=f"})
    assert world.obtain(ENVIRONMENT) == Credential(Keys("ENV", "e"))
    assert world.obtain({**ENVIRONMENT, "AWS_SESSION_TOKEN": "t"}).value == Keys("ENV", "e", "t")
    assert world.obtain({"AWS_ACCESS_KEY_ID": "ENV"}) == Credential(Keys("F", "f"), REREAD)


def test_a_key_of_bedrocks_own_is_shown_as_it_is() -> None:
    environ = {"AWS_BEARER_TOKEN_BEDROCK": "bedrock-key", **ENVIRONMENT}
    assert World().obtain(environ) == Credential("bedrock-key")
    wire = WireRequest(Origin("https", "h", 443), b"", b"", 0)
    assert CHAIN.authorize("bedrock-key", wire, NOW) == b"authorization: Bearer bedrock-key\r\n"
    assert World().obtain(environ, AwsChain("eu-central-1", "other")).value == Keys("ENV", "e")


def test_keys_sign_requests() -> None:
    wire = WireRequest(Origin("https", "h", 443), b"POST / HTTP/1.1\r\nhost: h\r\n", b"{}", 2)
    shown = CHAIN.authorize(Keys("AKI", "s", "t"), wire, NOW)
    assert b"\r\nx-amz-security-token: t\r\nauthorization: AWS4-HMAC-SHA256 Credential=AKI/20251125/" in shown


def test_a_profile_that_is_named_comes_before_the_environment() -> None:
    config = "[profile work]\nregion = us-east-1\naws_access_key_id = C\n[default]\naws_access_key_id = D"
    credentials = "[work]\naws_access_key_id = W\naws_secret_access_key = w\naws_session_token = t\n"
    files = {CONFIG: config, CREDENTIALS: credentials}
    chain = AwsChain("eu-central-1", "bedrock", "work")
    assert World(files).obtain(ENVIRONMENT, chain) == Credential(Keys("W", "w", "t"), REREAD)
    assert World(files).obtain({"AWS_PROFILE": "work"}).value.access_key == "W"
    elsewhere = {"AWS_CONFIG_FILE": "/c", "AWS_SHARED_CREDENTIALS_FILE": "/s", "AWS_PROFILE": "work"}
    assert World({"/s": credentials}).obtain(elsewhere).value.access_key == "W"
    with pytest.raises(Unobtainable, match="profile 'gone' has none in the shared files"):
        World(files).obtain({"AWS_PROFILE": "gone"})
    assert (chain.name, CHAIN.name) == ("AWS (work)", "AWS (default chain)")


def test_a_web_identity_of_the_environment_is_exchanged_for_keys() -> None:
    world = World({"/token": "jwt\n"}, Told(200, XML))
    environ = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:r"}
    assert world.obtain(environ) == HOUR
    [wire] = world.asked
    assert (wire.origin.host, world.lines) == ("sts.eu-central-1.amazonaws.com", ["POST /"])
    assert wire.body == (
        b"Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Ar&RoleSessionName=gatehouse&WebIdentityToken=jwt"
        b"&Version=2011-06-15"
    )
    china = World({"/token": "jwt"}, Told(200, XML))
    china.obtain({**environ, "AWS_ROLE_SESSION_NAME": "me"}, AwsChain("cn-north-1", "bedrock"))
    assert china.asked[0].origin.host == "sts.cn-north-1.amazonaws.com.cn"
    with pytest.raises(Unobtainable, match="/token: No such file"):
        World().obtain(environ)


def test_a_role_is_assumed_with_the_keys_of_another_profile() -> None:
    config = (
        "[profile app]\nrole_arn = arn:r\nsource_profile = base\nexternal_id = x\nrole_session_name = me\n"
    )
    credentials = "[base]\naws_access_key_id = B\naws_secret_access_key = b"
    world = World({CONFIG: config, CREDENTIALS: credentials}, Told(200, XML))
    assert world.obtain({"AWS_PROFILE": "app"}) == HOUR
    [wire] = world.asked
    assert (
        wire.body == b"Action=AssumeRole&RoleArn=arn%3Ar&RoleSessionName=me&ExternalId=x&Version=2011-06-15"
    )
    assert b"Credential=B/20251125/eu-central-1/sts/aws4_request" in wire.head


def test_a_role_may_be_assumed_with_own_keys_or_those_of_the_place() -> None:
    own = (
        "[default]\nrole_arn = r\nsource_profile = default\naws_access_key_id = O\naws_secret_access_key = o"
    )
    world = World({CREDENTIALS: own}, Told(200, XML))
    assert world.obtain() == HOUR
    assert b"Credential=O/" in world.asked[0].head
    imds = [Told(200, b"tok"), Told(200, b"role"), Told(200, JSON)]
    for source, environ, answers in (
        ("Environment", ENVIRONMENT, []),
        ("EcsContainer", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, [Told(200, JSON)]),
        ("Ec2InstanceMetadata", {}, imds),
    ):
        files = {CONFIG: f"[profile p]\nrole_arn = r\ncredential_source = {source}"}
        found = World(files, *answers, Told(200, XML)).obtain(
            environ, AwsChain("eu-central-1", "bedrock", "p")
        )
        assert found == HOUR
    with pytest.raises(Unobtainable, match="nothing to assume its role with"):
        World({CONFIG: "[default]\nrole_arn = r\ncredential_source = Elsewhere"}).obtain()
    circle = (
        "[default]\nrole_arn = r\nsource_profile = a\n[profile a]\nrole_arn = r\nsource_profile = default"
    )
    with pytest.raises(Unobtainable, match="roles lead to each other"):
        World({CONFIG: circle}).obtain()


def test_a_profile_may_exchange_a_web_identity() -> None:
    config = "[default]\nrole_arn = r\nweb_identity_token_file = /token"
    world = World({CONFIG: config, "/token": "jwt"}, Told(200, XML))
    assert world.obtain({"AWS_ENDPOINT_URL_STS": "http://sts.test:81"}) == HOUR
    assert world.asked[0].origin == Origin("http", "sts.test", 81)


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
    world = World({CONFIG: SSO, **cached(of)}, Told(200, PORTAL))
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
    with pytest.raises(Unobtainable, match="profile 'torn': sso_account_id is missing"):
        World({CONFIG: SSO}).obtain({"AWS_PROFILE": "torn"})
    with pytest.raises(Unobtainable, match="no keys of profile 'dev', role Reader Role: status 403"):
        World({CONFIG: SSO, **cached("corp")}, Told(403, b"{}")).obtain({"AWS_PROFILE": "dev"})


def test_a_process_writes_keys() -> None:
    told = JSON.replace(b'"Token"', b'"SessionToken"').replace(b"{", b'{"Version":1,', 1)
    world = World({CONFIG: "[default]\ncredential_process = /bin/keys --of 'a b'\n"}, Told(200, told))
    assert world.obtain() == HOUR
    assert world.run == ["/bin/keys --of 'a b'"]
    lasting = b'{"Version":1,"AccessKeyId":"AKI","SecretAccessKey":"s"}'
    world = World({CONFIG: "[default]\ncredential_process = x\n"}, Told(200, lasting))
    assert world.obtain() == Credential(Keys("AKI", "s"))


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (Told(0, b"it ended with 1"), "it ended with 1"),
        (Told(200, JSON), "version 1"),
        (Told(200, b"?"), "version 1"),
    ],
)
def test_a_process_that_gives_none_is_told(told: Told, why: str) -> None:
    with pytest.raises(Unobtainable, match=f"whose credential_process was run: .*{why}"):
        World({CONFIG: "[default]\ncredential_process = x\n"}, told).obtain()


def test_a_file_that_cannot_be_read_is_told_and_a_profile_may_only_name_a_region() -> None:
    with pytest.raises(Unobtainable, match="shared config file of AWS cannot be read"):
        World({CONFIG: "x"}).obtain()
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/v1"}
    only_a_region = World({CONFIG: "[default]\nregion = eu-central-1"}, Told(200, JSON))
    assert only_a_region.obtain(container) == HOUR


def test_a_containers_endpoint_is_asked() -> None:
    relative = World({}, Told(200, JSON))
    assert relative.obtain({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}) == HOUR
    assert (relative.asked[0].origin.host, relative.lines) == ("169.254.170.2", ["GET /v2/credentials/x"])
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials?a=b",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "old",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/pod",
    }
    pod = World({"/pod": "fresh\n"}, Told(200, JSON))
    assert pod.obtain(environ) == HOUR
    assert pod.lines == ["GET /v1/credentials?a=b"]
    assert pod.asked[0].head.endswith(b"\r\nauthorization: fresh\r\n")
    with pytest.raises(Unobtainable, match="must look like"):
        World().obtain({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "ftp://x"})


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://keys.test/x", True), ("http://[fd00:ec2::23]/v1", True), ("http://localhost:81/x", True),
        ("http://keys.test/x", False), ("http://169.254.170.2.keys.test/x", False),
    ],
)  # fmt: skip
def test_a_containers_token_is_shown_in_the_clear_only_nearby(url: str, asked: bool) -> None:
    world = World({}, Told(200, JSON))
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"}
    if asked:
        assert world.obtain(environ) == HOUR
    else:
        with pytest.raises(Unobtainable, match="must be https"):
            world.obtain(environ)
        assert not world.asked


def test_no_token_or_role_can_write_a_head() -> None:
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/v1"}
    with pytest.raises(Unobtainable, match="authorization: holds a control character"):
        World().obtain({**container, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t\r\nx-evil: 1"})
    with pytest.raises(Unobtainable, match="x-aws-ec2-metadata-token: holds a control character"):
        World({}, Told(200, b"tok\r\nx-evil: 1")).obtain()
    world = World({}, Told(200, b"tok"), Told(200, b"a?b c+d@e\nf"), Told(200, JSON))
    assert world.obtain() == HOUR
    assert world.lines[-1].endswith("/a%3Fb%20c+d%40e")


def test_keys_that_no_header_can_show_are_refused_and_blanks_about_them_are_none_of_them() -> None:
    assert World().obtain({**ENVIRONMENT, "AWS_SESSION_TOKEN": "t\n"}).value == Keys("ENV", "e", "t")
    with pytest.raises(Unobtainable, match="the keys of the environment hold characters") as refusal:
        World().obtain({**ENVIRONMENT, "AWS_SESSION_TOKEN": "secret\r\nx-evil: 1"})
    assert "secret" not in str(refusal.value)
    container = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}
    with pytest.raises(Unobtainable, match="no keys of the container's endpoint: status 200"):
        World({}, Told(200, JSON.replace(b'"AKI"', b'""'))).obtain(container)


def test_what_sts_says_below_its_first_line_is_kept_back() -> None:
    said = (
        b"<Error><Message>The signature does not match.\n\nSigned was 'x-amz-security-token:FwoG'</Message>"
    )
    with pytest.raises(Unobtainable, match=r"no keys of role r: The signature does not match\.$"):
        World({"/t": "jwt"}, Told(403, said)).obtain(
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "r"}
        )


def test_a_secret_is_in_no_representation() -> None:
    assert repr(Credential(Keys("AKI", "secret", "token"))) == "Credential(value=Keys('AKI'), seconds=None)"


def test_the_machine_is_asked_for_a_token_its_role_and_its_keys() -> None:
    world = World({}, Told(200, b"tok"), Told(200, b"role-x\n"), Told(200, JSON))
    assert world.obtain() == HOUR
    base = "/latest/meta-data/iam/security-credentials/"
    assert world.lines == ["PUT /latest/api/token", f"GET {base}", f"GET {base}role-x"]
    assert b"x-aws-ec2-metadata-token-ttl-seconds: 21600" in world.asked[0].head
    assert all(b"x-aws-ec2-metadata-token: tok\r\n" in wire.head for wire in world.asked[1:])
    elsewhere = World({}, Told(200, b"t"), Told(200, b"r"), Told(200, JSON))
    elsewhere.obtain({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]/"})
    assert elsewhere.asked[0].origin.host == "fd00:ec2::254"
    with pytest.raises(Unobtainable, match="the machine has no role"):
        World({}, Told(200, b"tok"), Told(404, b"")).obtain()


def test_where_nothing_is_found_the_remedy_is_told() -> None:
    world = World()
    with pytest.raises(Unobtainable, match="looked everywhere; set AWS_ACCESS_KEY_ID"):
        world.obtain({"AWS_EC2_METADATA_DISABLED": "true"})
    assert world.asked == []
    with pytest.raises(Unobtainable, match="looked everywhere"):
        world.obtain()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (Told(403, b"<Message>Not authorized</Message>"), "Not authorized"), (Told(500, b"[]"), "status 500"),
        (Told(200, b"no"), "status 200"), (NO_ANSWER, "no route to host"),
    ],
)  # fmt: skip
def test_why_there_are_no_keys_is_told(told: Told, why: str) -> None:
    with pytest.raises(Unobtainable, match=f"no keys of the container's endpoint: {why}"):
        World({}, told).obtain({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"})


@pytest.mark.parametrize("expiration", ["", ',"Expiration":"some day"'])
def test_keys_that_do_not_say_when_they_end_are_kept(expiration: str) -> None:
    told = b'{"AccessKeyId":"AKI","SecretAccessKey":"s","Token":"t"%b}' % expiration.encode()
    found = World({}, Told(200, told)).obtain({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"})
    assert found == Credential(Keys("AKI", "s", "t"))
