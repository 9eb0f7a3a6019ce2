"""Where keys to AWS come from, in the order of Amazon's own SDKs:

the environment · a web identity of the environment · a profile of the shared files (its keys, a role it assumes, a web
identity) · the container's endpoint · the machine's metadata (IMDSv2)

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html tells of each.
"""

import configparser
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from gateway.core.address import WireRequest
from gateway.core.credential import Credential, Steps, Told, Unobtainable
from gateway.providers.aws.sigv4 import Keys, signed
from gateway.providers.compatible import asking, header_value, host_line, parse_base_url

METADATA = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"
# Where a container's token may be shown in the clear: this machine, ECS and EKS, as in Amazon's own SDKs.
_NEAR = frozenset({"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
SESSION = "gatehouse"  # what a role's sessions are called in CloudTrail
REREAD = 600.0  # seconds that keys of the shared files are used: others may write new ones there
_TOKEN, _TTL = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"
_LIFETIME = "21600"  # the longest that IMDS gives
_XML = re.compile(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>\s*([^<]+?)\s*<")
_MOST_SAID = 300  # characters of what STS says
_MOST_ROLES = 4  # one that is assumed by way of another, and so on

Profiles = dict[str, dict[str, str]]
Asking = WireRequest | Path
Looked = Generator[Asking, Told, Credential | None]


@dataclass(slots=True, frozen=True)
class AwsChain:
    """Signs for one service in one region. A profile that is named here comes before the environment's keys."""

    region: str
    service: str
    profile: str = ""

    @property
    def name(self) -> str:
        return f"AWS ({self.profile or 'default chain'})"

    def obtain(self, now: float, environ: Mapping[str, str]) -> Steps:
        bearer = environ.get("AWS_BEARER_TOKEN_BEDROCK") if self.service == "bedrock" else None
        if bearer and not self.profile:
            return Credential(bearer)
        walk = _Walk(self.region, environ, now)
        profile = self.profile or environ.get("AWS_PROFILE") or ""
        if not self.profile and (found := _of_environment(environ)):
            return found
        if not profile and (found := (yield from walk.web_identity())):
            return found
        if found := (yield from walk.profile(profile)):
            return found
        for look in () if profile else (walk.container, walk.machine):
            if found := (yield from look()):
                return found
        where = f"profile {profile!r} has none in the shared files" if profile else "looked everywhere"
        raise Unobtainable(
            f"no credentials: {where}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or api_key of the provider"
        )

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        """Keys sign; Bedrock's own bearer token is shown as it is."""
        if isinstance(value, str):
            return f"authorization: Bearer {value}\r\n".encode()
        return signed(value, wire, self.region, self.service, now)


def _of_environment(environ: Mapping[str, str]) -> Credential | None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    keys = _keys(*(environ.get(name) for name in names), whose="the environment")
    return Credential(keys) if keys else None


class _Walk:
    """One look through the places that need a file read or a request made. Each is None where it has nothing."""

    def __init__(self, region: str, environ: Mapping[str, str], now: float) -> None:
        self._region, self._environ, self._now = region, environ, now

    def web_identity(self) -> Looked:
        """As Kubernetes sets it up for a service account."""
        path, role = (self._environ.get(name) for name in ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"))
        if not path or not role:
            return None
        return (yield from self._by_token(path, role, self._environ.get("AWS_ROLE_SESSION_NAME") or SESSION))

    def profile(self, name: str, depth: int = 0) -> Looked:
        """`name` is "" for the default one."""
        profiles = yield from self._profiles()
        found = profiles.get(name or "default")
        if found is None:
            return None
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        keys = _keys(*map(found.get, names), whose=f"profile {name or 'default'!r}")
        role = found.get("role_arn")
        if role and (path := found.get("web_identity_token_file")):
            return (yield from self._by_token(path, role, found.get("role_session_name") or SESSION))
        if role:
            own = keys if found.get("source_profile") == (name or "default") else None
            base = own or (yield from self._base(name or "default", found, depth))
            return (yield from self._assumed(role, found, base))
        if keys is None:
            _refuse_others(name or "default", found)
        return Credential(keys, REREAD) if keys else None

    def container(self) -> Looked:
        """ECS and EKS Pod Identity. Raises Unobtainable."""
        environ = self._environ
        url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
        if relative := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            url = CONTAINER + relative
        if not url:
            return None
        token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            token = (yield from _file(path)).strip()
        asked = _get(url, {"authorization": token} if token else {})
        if asked.origin.scheme != "https" and asked.origin.host not in _NEAR:
            raise Unobtainable(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of ECS or EKS"
            )
        return self._of_json((yield asked), "the container's endpoint")

    def machine(self) -> Looked:
        """IMDSv2: a token first, then the name of the machine's role, then its keys. Raises Unobtainable."""
        if self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        base = self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA).rstrip("/")
        asked = _get(f"{base}/latest/api/token", {_TTL: _LIFETIME})
        told = yield asked._replace(head=b"PUT" + asked.head.removeprefix(b"GET"))
        if told.status != 200:
            return None
        token = {_TOKEN: told.body.decode("latin-1")}
        roles = f"{base}/latest/meta-data/iam/security-credentials/"
        told = yield _get(roles, token)
        if told.status != 200:
            raise Unobtainable("the machine has no role; attach an instance profile to it")
        role = told.body.decode("utf-8", "replace").split("\n")[0].strip()
        told = yield _get(roles + quote(role, safe="+=,"), token)
        return self._of_json(told, f"the machine's role {role}")

    def _profiles(self) -> Generator[Asking, Told, Profiles]:
        """Those of the credentials file come before those of the config file, member by member."""
        home = Path(self._environ.get("HOME") or "/")
        found: Profiles = {}
        for variable, usual in (
            ("AWS_CONFIG_FILE", "config"),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ):
            told = yield Path(self._environ.get(variable) or home / ".aws" / usual)
            for section, members in _ini(told, usual).items():
                name = section.removeprefix("profile ").strip() if usual == "config" else section
                found[name] = found.get(name, {}) | members
        return found

    def _base(self, name: str, profile: Mapping[str, str], depth: int) -> Generator[Asking, Told, Keys]:
        """The keys that a profile's role is assumed with."""
        if depth == _MOST_ROLES:
            raise Unobtainable(f"profile {name!r}: more than {_MOST_ROLES} roles lead to each other")
        if source := profile.get("source_profile"):
            base = yield from self.profile(source, depth + 1)
        else:
            base = yield from self._by_name(profile.get("credential_source"))
        if base is None:
            raise Unobtainable(f"profile {name!r}: nothing to assume its role with; give it a source_profile")
        keys: Keys = base.value
        return keys

    def _by_name(self, source: str | None) -> Looked:
        if source == "Environment":
            return _of_environment(self._environ)
        if source == "EcsContainer":
            return (yield from self.container())
        if source == "Ec2InstanceMetadata":
            return (yield from self.machine())
        return None

    def _assumed(self, role: str, profile: Mapping[str, str], base: Keys) -> Looked:
        session = profile.get("role_session_name") or SESSION
        form = {"Action": "AssumeRole", "RoleArn": role, "RoleSessionName": session}
        if "external_id" in profile:
            form["ExternalId"] = profile["external_id"]
        wire = self._sts(form)
        told = yield wire._replace(head=wire.head + signed(base, wire, self._region, "sts", self._now))
        return self._of_sts(told, role)

    def _by_token(self, path: str, role: str, session: str) -> Looked:
        token = (yield from _file(path)).strip()
        form = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": role, "RoleSessionName": session}
        return self._of_sts((yield self._sts({**form, "WebIdentityToken": token})), role)

    def _sts(self, form: Mapping[str, str]) -> WireRequest:
        usual = f"https://sts.{self._region}.{domain(self._region)}"
        return asking(self._environ.get("AWS_ENDPOINT_URL_STS") or usual, {**form, "Version": "2011-06-15"})

    def _of_sts(self, told: Told, role: str) -> Credential:
        return self._credential(
            dict(_XML.findall(told.body.decode("utf-8", "replace"))), told, f"role {role}"
        )

    def _of_json(self, told: Told, whose: str) -> Credential:
        try:
            found = orjson.loads(told.body)
        except orjson.JSONDecodeError:
            found = None
        found = found if isinstance(found, dict) else {}
        return self._credential({**found, "SessionToken": found.get("Token")}, told, whose)

    def _credential(self, found: Mapping[str, Any], told: Told, whose: str) -> Credential:
        texts = [found.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
        complete = told.status == 200 and all(isinstance(text, str) for text in texts)
        keys = _keys(*texts, whose=whose) if complete else None
        if keys is None:
            raise Unobtainable(f"no keys of {whose}: {_reason(told)}")
        try:
            ends = datetime.fromisoformat(str(found["Expiration"])).timestamp()
        except (KeyError, ValueError):
            return Credential(keys)
        return Credential(keys, ends - self._now)


def domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _reason(told: Told) -> str:
    """What STS says of it, else the status: other bodies may hold keys. Below its first line STS repeats what
    was signed, session tokens among it."""
    if not told.status:
        return told.body.decode("utf-8", "replace")
    said = re.search(r"<Message>\s*([^<\r\n]+)", told.body.decode("utf-8", "replace"))
    return said[1][:_MOST_SAID] if said else f"status {told.status}"


def _keys(key: str | None, secret: str | None, token: str | None, *, whose: str) -> Keys | None:
    """None where they are not both there. Raises Unobtainable for what no header can show."""
    if not key or not secret:
        return None
    made = Keys(key.strip(), secret.strip(), (token or "").strip())
    if not all(text.isascii() and text.isprintable() for text in made):
        raise Unobtainable(f"the keys of {whose} hold characters that no key has; a line break, perhaps")
    return made


def _refuse_others(name: str, profile: Mapping[str, str]) -> None:
    """A profile without keys may only name a region. Raises Unobtainable for ways to keys that are not gone here."""
    for field in ("credential_process", "sso_session", "sso_start_url"):
        if field in profile:
            raise Unobtainable(
                f"profile {name!r} has {field}, which the gateway does not run; export its keys "
                "(aws configure export-credentials), or use a role"
            )


def _ini(told: Told, what: str) -> Profiles:
    if told.status != 200:
        return {}
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(told.body.decode())
    except (configparser.Error, UnicodeDecodeError):
        raise Unobtainable(f"the shared {what} file of AWS cannot be read") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def _file(path: str) -> Generator[Asking, Told, str]:
    told = yield Path(path)
    if told.status != 200:
        raise Unobtainable(f"{path}: {told.body.decode('utf-8', 'replace')}")
    return told.body.decode("utf-8", "replace")


def _get(url: str, headers: Mapping[str, str]) -> WireRequest:
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
