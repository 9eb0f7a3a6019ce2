"""Where keys to AWS come from, in the order of Amazon's own SDKs."""

import pytest

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Credential, StepResult, Unobtainable
from gateway.providers.aws.chain import REREAD, AwsChain
from gateway.providers.aws.sigv4 import Keys
from tests.gateway.providers.aws.world import (
    CHAIN,
    CONFIG,
    CREDENTIALS,
    ENVIRONMENT,
    HOUR,
    JSON,
    NO_ANSWER,
    NOW,
    XML,
    World,
)


def test_keys_of_the_environment_come_first() -> None:
    world = World({CREDENTIALS: "[default]\naws_access_key_id=F\naws_secret_access_key=f"})
    assert world.obtain(ENVIRONMENT) == Credential(Keys("ENV", "e"))
    assert world.obtain({**ENVIRONMENT, "AWS_SESSION_TOKEN": "t"}).value == Keys("ENV", "e", "t")
    assert world.obtain({"AWS_SECRET_ACCESS_KEY": "e"}) == Credential(Keys("F", "f"), REREAD)
    with pytest.raises(
        Unobtainable, match="the keys of the environment are not whole: the secret is missing"
    ):
        world.obtain({"AWS_ACCESS_KEY_ID": "ENV"})


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
    with pytest.raises(Unobtainable, match="there is no profile 'gone' in the shared files"):
        World(files).obtain({"AWS_PROFILE": "gone"})
    assert World(files).obtain({"AWS_PROFILE": "gone", "AWS_DEFAULT_PROFILE": "work"}).value.access_key == "W"
    assert (chain.name, CHAIN.name) == ("AWS (work)", "AWS (default chain)")


def test_a_web_identity_of_the_environment_is_exchanged_for_keys() -> None:
    world = World({"/token": "jwt\n"}, StepResult(200, XML))
    environ = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:r"}
    assert world.obtain(environ) == HOUR
    [wire] = world.asked
    assert (wire.origin.host, world.lines) == ("sts.eu-central-1.amazonaws.com", ["POST /"])
    assert wire.body == (
        b"Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Ar&RoleSessionName=gatehouse&WebIdentityToken=jwt"
        b"&Version=2011-06-15"
    )
    china = World({"/token": "jwt"}, StepResult(200, XML))
    china.obtain({**environ, "AWS_ROLE_SESSION_NAME": "me"}, AwsChain("cn-north-1", "bedrock"))
    assert china.asked[0].origin.host == "sts.cn-north-1.amazonaws.com.cn"
    with pytest.raises(Unobtainable, match="/token: No such file"):
        World().obtain(environ)


def test_a_web_identity_is_of_the_environment_or_the_profile_field_by_field() -> None:
    config = "[default]\nrole_arn = arn:p\nrole_session_name = me\nweb_identity_token_file = /p"
    world = World({CONFIG: config, "/e": "jwt"}, StepResult(200, XML))
    world.obtain({"AWS_WEB_IDENTITY_TOKEN_FILE": "/e"})
    assert b"RoleArn=arn%3Ap&RoleSessionName=me&WebIdentityToken=jwt&" in world.bodies[0]
    with pytest.raises(Unobtainable, match="of no use without AWS_ROLE_ARN or role_arn"):
        World().obtain({"AWS_WEB_IDENTITY_TOKEN_FILE": "/e"})
    own = World({CONFIG: config.replace("default", "profile me"), "/p": "own"}, StepResult(200, XML))
    environ = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/e", "AWS_ROLE_ARN": "arn:e"}
    assert own.obtain(environ, AwsChain("eu-central-1", "bedrock", "me")) == HOUR
    assert b"RoleArn=arn%3Ap&" in own.bodies[0], "whose profile is named wants nobody else's identity"


def test_a_profile_without_keys_leaves_them_to_the_machine() -> None:
    world = World({CONFIG: "[profile here]\nregion = eu-central-1"}, StepResult(200, JSON))
    environ = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x", **ENVIRONMENT}
    assert world.obtain(environ, AwsChain("eu-central-1", "bedrock", "here")) == HOUR


def test_sections_of_the_config_file_that_are_no_profiles_are_none() -> None:
    keys = "aws_access_key_id = A\naws_secret_access_key = a\n"
    config = (
        f"[work]\n{keys}[profile 'two words']\n{keys}[profile three words here]\n{keys}[profile \"]\n{keys}"
    )
    found = World({CONFIG: config}).obtain({"AWS_PROFILE": "two words"})
    assert found == Credential(Keys("A", "a"), REREAD)
    for name in ("work", "three words here"):
        with pytest.raises(Unobtainable, match=f"no profile '{name}'"):
            World({CONFIG: config}).obtain({"AWS_PROFILE": name})


def test_a_role_is_assumed_with_the_keys_of_another_profile() -> None:
    config = (
        "[profile app]\nrole_arn = arn:r\nsource_profile = base\nexternal_id = x\nrole_session_name = me\n"
        "duration_seconds = 43200\n"
    )
    credentials = "[base]\naws_access_key_id = B\naws_secret_access_key = b"
    world = World({CONFIG: config, CREDENTIALS: credentials}, StepResult(200, XML))
    assert world.obtain({"AWS_PROFILE": "app"}) == HOUR
    [wire] = world.asked
    assert (
        wire.body
        == b"Action=AssumeRole&RoleArn=arn%3Ar&RoleSessionName=me&ExternalId=x&DurationSeconds=43200"
        b"&Version=2011-06-15"
    )
    assert b"Credential=B/20251125/eu-central-1/sts/aws4_request" in wire.head


def test_a_role_may_be_assumed_with_own_keys_or_those_of_the_place() -> None:
    own = (
        "[default]\nrole_arn = r\nsource_profile = default\naws_access_key_id = O\naws_secret_access_key = o"
    )
    world = World({CREDENTIALS: own}, StepResult(200, XML))
    assert world.obtain() == HOUR
    assert b"Credential=O/" in world.asked[0].head
    imds = [StepResult(200, b"tok"), StepResult(200, b"role"), StepResult(200, JSON)]
    for source, environ, answers in (
        ("Environment", ENVIRONMENT, []),
        ("EcsContainer", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, [StepResult(200, JSON)]),
        ("Ec2InstanceMetadata", {}, imds),
    ):
        files = {CONFIG: f"[profile p]\nrole_arn = r\ncredential_source = {source}"}
        found = World(files, *answers, StepResult(200, XML)).obtain(
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


def test_a_role_may_lead_to_another_until_one_has_keys() -> None:
    config = "[default]\nrole_arn = top\nsource_profile = middle\n"
    config += "[profile middle]\nrole_arn = mid\nsource_profile = base\n"
    config += "[profile base]\nrole_arn = unused\nsource_profile = gone\naws_access_key_id = B\n"
    config += "aws_secret_access_key = b\n"
    world = World({CONFIG: config}, StepResult(200, XML), StepResult(200, XML))
    assert world.obtain() == HOUR
    assert [b"RoleArn=mid" in body for body in world.bodies] == [True, False]
    assert b"Credential=B/" in world.asked[0].head
    assert b"Credential=AKI/" in world.asked[1].head


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ("source_profile = a\ncredential_source = Environment", "source_profile and credential_source"),
        ("source_profile = gone", "there is no source_profile 'gone'"),
        ("source_profile = default", "roles lead to each other"),
        ("region = x", "nothing to assume its role with"),
        ("source_profile = empty", "nothing to assume its role with"),
        ("source_profile = a\nmfa_serial = arn:m", "which nobody is here to type"),
        ("source_profile = a\nduration_seconds = long", "duration_seconds must be a number, not 'long'"),
    ],
)
def test_why_a_role_cannot_be_assumed_is_told(members: str, why: str) -> None:
    config = f"[default]\nrole_arn = r\n{members}\n[profile empty]\nregion = x\n"
    with pytest.raises(Unobtainable, match=f"profile 'default': .*{why}"):
        World({CONFIG: config}).obtain()


def test_a_profile_may_exchange_a_web_identity() -> None:
    config = "[default]\nrole_arn = r\nweb_identity_token_file = /token"
    world = World({CONFIG: config, "/token": "jwt"}, StepResult(200, XML))
    assert world.obtain({"AWS_ENDPOINT_URL_STS": "http://sts.test:81"}) == HOUR
    assert world.asked[0].origin == Origin("http", "sts.test", 81)


def test_a_process_writes_keys() -> None:
    told = JSON.replace(b'"Token"', b'"SessionToken"').replace(b"{", b'{"Version":1,', 1)
    world = World({CONFIG: "[default]\ncredential_process = /bin/keys --of 'a b'\n"}, StepResult(200, told))
    assert world.obtain() == HOUR
    assert world.run == ["/bin/keys --of 'a b'"]
    lasting = b'{"Version":1,"AccessKeyId":"AKI","SecretAccessKey":"s"}'
    world = World({CONFIG: "[default]\ncredential_process = x\n"}, StepResult(200, lasting))
    assert world.obtain() == Credential(Keys("AKI", "s"))


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (StepResult(0, b"it ended with 1"), "it ended with 1"),
        (StepResult(200, JSON), "version 1"),
        (StepResult(200, b"?"), "version 1"),
    ],
)
def test_a_process_that_gives_none_is_told(told: StepResult, why: str) -> None:
    with pytest.raises(Unobtainable, match=f"whose credential_process was run: .*{why}"):
        World({CONFIG: "[default]\ncredential_process = x\n"}, told).obtain()


def test_a_file_that_cannot_be_read_is_told_and_a_profile_may_only_name_a_region() -> None:
    with pytest.raises(Unobtainable, match="shared config file of AWS cannot be read"):
        World({CONFIG: "x"}).obtain()
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/v1"}
    only_a_region = World({CONFIG: "[default]\nregion = eu-central-1"}, StepResult(200, JSON))
    assert only_a_region.obtain(container) == HOUR


def test_a_containers_endpoint_is_asked() -> None:
    relative = World({}, StepResult(200, JSON))
    assert relative.obtain({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}) == HOUR
    assert (relative.asked[0].origin.host, relative.lines) == ("169.254.170.2", ["GET /v2/credentials/x"])
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials?a=b",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "old",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/pod",
    }
    pod = World({"/pod": "fresh\n"}, StepResult(200, JSON))
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
    world = World({}, StepResult(200, JSON))
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
        World({}, StepResult(200, b"tok\r\nx-evil: 1")).obtain()
    world = World({}, StepResult(200, b"tok"), StepResult(200, b"a?b c+d@e\nf"), StepResult(200, JSON))
    assert world.obtain() == HOUR
    assert world.lines[-1].endswith("/a%3Fb%20c+d%40e")


def test_keys_that_no_header_can_show_are_refused_and_blanks_about_them_are_none_of_them() -> None:
    assert World().obtain({**ENVIRONMENT, "AWS_SESSION_TOKEN": "t\n"}).value == Keys("ENV", "e", "t")
    with pytest.raises(Unobtainable, match="the keys of the environment hold characters") as refusal:
        World().obtain({**ENVIRONMENT, "AWS_SESSION_TOKEN": "secret\r\nx-evil: 1"})
    assert "secret" not in str(refusal.value)
    container = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}
    with pytest.raises(Unobtainable, match="no keys of the container's endpoint: status 200"):
        World({}, StepResult(200, JSON.replace(b'"AKI"', b'""'))).obtain(container)


def test_what_sts_says_below_its_first_line_is_kept_back() -> None:
    said = (
        b"<Error><Message>The signature does not match.\n\nSigned was 'x-amz-security-token:FwoG'</Message>"
    )
    with pytest.raises(Unobtainable, match=r"no keys of role r: The signature does not match\.$"):
        World({"/t": "jwt"}, StepResult(403, said)).obtain(
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "r"}
        )


def test_a_secret_is_in_no_representation() -> None:
    assert repr(Credential(Keys("AKI", "secret", "token"))) == "Credential(value=Keys('AKI'), seconds=None)"


def test_the_machine_is_asked_for_a_token_its_role_and_its_keys() -> None:
    world = World({}, StepResult(200, b"tok"), StepResult(200, b"role-x\n"), StepResult(200, JSON))
    assert world.obtain() == HOUR
    base = "/latest/meta-data/iam/security-credentials/"
    assert world.lines == ["PUT /latest/api/token", f"GET {base}", f"GET {base}role-x"]
    assert b"x-aws-ec2-metadata-token-ttl-seconds: 21600" in world.asked[0].head
    assert all(b"x-aws-ec2-metadata-token: tok\r\n" in wire.head for wire in world.asked[1:])
    elsewhere = World({}, StepResult(200, b"t"), StepResult(200, b"r"), StepResult(200, JSON))
    elsewhere.obtain({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]/"})
    assert elsewhere.asked[0].origin.host == "fd00:ec2::254"
    with pytest.raises(Unobtainable, match="the machine has no role"):
        World({}, StepResult(200, b"tok"), StepResult(404, b"")).obtain()


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
        (StepResult(403, b"<Message>Not authorized</Message>"), "Not authorized"),
        (StepResult(500, b"[]"), "status 500"),
        (StepResult(200, b"no"), "status 200"), (NO_ANSWER, "no route to host"),
    ],
)  # fmt: skip
def test_why_there_are_no_keys_is_told(told: StepResult, why: str) -> None:
    with pytest.raises(Unobtainable, match=f"no keys of the container's endpoint: {why}"):
        World({}, told).obtain({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"})


@pytest.mark.parametrize("expiration", ["", ',"Expiration":"some day"'])
def test_keys_that_do_not_say_when_they_end_are_kept(expiration: str) -> None:
    told = b'{"AccessKeyId":"AKI","SecretAccessKey":"s","Token":"t"%b}' % expiration.encode()
    found = World({}, StepResult(200, told)).obtain({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"})
    assert found == Credential(Keys("AKI", "s", "t"))
