"""Places that keep keys to AWS and are asked for them: a container's endpoint, the machine, single sign-on, a process.
Each yields what is to be asked, and is None where it has nothing."""

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from gateway.core.address import WireRequest
from gateway.core.credential import Command, Credential, Step, Told, Unobtainable
from gateway.providers.aws.answers import of_json, of_portal, read
from gateway.providers.compatible import header_value, host_line, parse_base_url

METADATA = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"
# Where a container's token may be shown in the clear: this machine, ECS and EKS, as in Amazon's own SDKs.
_NEAR = frozenset({"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
_TOKEN, _TTL = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"
_LIFETIME = "21600"  # the longest that IMDS gives
_SIGNED_ON = "x-amz-sso_bearer_token"  # the header that shows the cached token

Environ = Mapping[str, str]
Looked = Generator[Step, Told, Credential | None]


def container(environ: Environ, now: float) -> Looked:
    """ECS and EKS Pod Identity. Raises Unobtainable."""
    url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if relative := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        url = CONTAINER + relative
    if not url:
        return None
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = (yield from text_of(path)).strip()
    asked = get(url, {"authorization": token} if token else {})
    if asked.origin.scheme != "https" and asked.origin.host not in _NEAR:
        raise Unobtainable("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of ECS or EKS")
    return of_json((yield asked), "the container's endpoint", now)


def machine(environ: Environ, now: float) -> Looked:
    """IMDSv2: a token first, then the name of the machine's role, then its keys. Raises Unobtainable."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    base = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA).rstrip("/")
    asked = get(f"{base}/latest/api/token", {_TTL: _LIFETIME})
    told = yield asked._replace(head=b"PUT" + asked.head.removeprefix(b"GET"))
    if told.status != 200:
        return None
    token = {_TOKEN: told.body.decode("latin-1")}
    roles = f"{base}/latest/meta-data/iam/security-credentials/"
    told = yield get(roles, token)
    if told.status != 200:
        raise Unobtainable("the machine has no role; attach an instance profile to it")
    role = told.body.decode("utf-8", "replace").split("\n")[0].strip()
    told = yield get(roles + quote(role, safe="+=,"), token)
    return of_json(told, f"the machine's role {role}", now)


def single_sign_on(
    name: str, profile: Mapping[str, str], session: Mapping[str, str], environ: Environ, now: float
) -> Looked:
    """Keys of a profile's role for the token that `aws sso login` has left in its cache. `session` is the section that
    the profile names, or the profile itself, which says all in the older way. Raises Unobtainable."""
    said = {**session, **profile}
    try:
        account, role, region = (said[field] for field in ("sso_account_id", "sso_role_name", "sso_region"))
        key = said.get("sso_session") or said["sso_start_url"]
    except KeyError as missing:
        raise Unobtainable(f"profile {name!r}: {missing.args[0]} is missing") from None
    cache = Path(environ.get("HOME") or "/") / ".aws" / "sso" / "cache"
    found = read((yield cache / f"{sha1(key.encode(), usedforsecurity=False).hexdigest()}.json"))
    token, ends = found.get("accessToken"), str(found.get("expiresAt"))
    if not isinstance(token, str) or _moment(ends) <= now:
        raise Unobtainable(f"profile {name!r}: its sign-on has ended; run aws sso login --profile {name}")
    usual = f"https://portal.sso.{region}.amazonaws.com"
    asked = urlencode({"role_name": role, "account_id": account})
    url = f"{environ.get('AWS_ENDPOINT_URL_SSO') or usual}/federation/credentials?{asked}"
    return of_portal((yield get(url, {_SIGNED_ON: token})), f"profile {name!r}, role {role}", now)


def by_process(name: str, line: str, now: float) -> Looked:
    """Keys that a program of the profile's owner writes. Raises Unobtainable."""
    told = yield Command(line)
    whose = f"profile {name!r}, whose credential_process was run"
    if told.status == 200 and read(told).get("Version") != 1:
        raise Unobtainable(f"no keys of {whose}: it wrote none of version 1")
    return of_json(told, whose, now)


def _moment(text: str) -> float:
    """0 for what is no time. Amazon's tools write UTC, the older ones by that name."""
    try:
        read = datetime.fromisoformat(text.replace("UTC", "Z"))
    except ValueError:
        return 0.0
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def text_of(path: str) -> Generator[Step, Told, str]:
    """Raises Unobtainable for a file that cannot be read."""
    told = yield Path(path)
    if told.status != 200:
        raise Unobtainable(f"{path}: {told.body.decode('utf-8', 'replace')}")
    return told.body.decode("utf-8", "replace")


def get(url: str, headers: Mapping[str, str]) -> WireRequest:
    """Raises Unobtainable for an address that is none, and for what no header can hold."""
    try:
        origin, _ = parse_base_url(url.partition("?")[0], "the address of credentials")
        lines = [f"{name}: ".encode() + header_value(name, value) for name, value in headers.items()]
    except ValueError as error:
        raise Unobtainable(str(error)) from None
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = (
        f"GET {target} HTTP/1.1\r\n".encode("latin-1") + host_line(origin) + b"accept-encoding: identity\r\n"
    )
    return WireRequest(origin, head + b"".join(lines), b"", 0)
