"""Where keys to AWS come from, in the order of Amazon's own SDKs:

the environment · a web identity of the environment · a profile of the shared files (its keys, a role it assumes, a web
identity, single sign-on, a process) · the container's endpoint · the machine's metadata (IMDSv2)

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html tells of each.
"""

import configparser
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.core.address import WireRequest
from gateway.core.credential import Credential, Step, Steps, Told, Unobtainable
from gateway.providers.aws.answers import keys_of, of_sts
from gateway.providers.aws.places import (
    Looked,
    by_process,
    container,
    machine,
    single_sign_on,
    text_of,
)
from gateway.providers.aws.sigv4 import Keys, signed
from gateway.providers.compatible import asking

SESSION = "gatehouse"  # what a role's sessions are called in CloudTrail
REREAD = 600.0  # seconds that keys of the shared files are used: others may write new ones there
_MOST_ROLES = 4  # one that is assumed by way of another, and so on

_SESSION = "sso-session "  # what the names of sections begin with that profiles share

Profiles = dict[str, dict[str, str]]


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
        for look in () if profile else (container, machine):
            if found := (yield from look(environ, now)):
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
    keys = keys_of(*(environ.get(name) for name in names), whose="the environment")
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
        keys = keys_of(*map(found.get, names), whose=f"profile {name or 'default'!r}")
        role = found.get("role_arn")
        if role and (path := found.get("web_identity_token_file")):
            return (yield from self._by_token(path, role, found.get("role_session_name") or SESSION))
        if role:
            own = keys if found.get("source_profile") == (name or "default") else None
            base = own or (yield from self._base(name or "default", found, depth))
            return (yield from self._assumed(role, found, base))
        if keys:
            return Credential(keys, REREAD)
        return (yield from self._elsewhere(name or "default", found, profiles))

    def _elsewhere(self, name: str, profile: Mapping[str, str], profiles: Profiles) -> Looked:
        """Keys that a profile does not hold, but says how to get."""
        if "sso_session" in profile or "sso_start_url" in profile:
            session = profiles.get(_SESSION + profile.get("sso_session", ""), {})
            return (yield from single_sign_on(name, profile, session, self._environ, self._now))
        if "credential_process" in profile:
            return (yield from by_process(name, profile["credential_process"], self._now))
        return None  # it may only name a region

    def _profiles(self) -> Generator[Step, Told, Profiles]:
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

    def _base(self, name: str, profile: Mapping[str, str], depth: int) -> Generator[Step, Told, Keys]:
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
            return (yield from container(self._environ, self._now))
        if source == "Ec2InstanceMetadata":
            return (yield from machine(self._environ, self._now))
        return None

    def _assumed(self, role: str, profile: Mapping[str, str], base: Keys) -> Looked:
        session = profile.get("role_session_name") or SESSION
        form = {"Action": "AssumeRole", "RoleArn": role, "RoleSessionName": session}
        if "external_id" in profile:
            form["ExternalId"] = profile["external_id"]
        wire = self._sts(form)
        told = yield wire._replace(head=wire.head + signed(base, wire, self._region, "sts", self._now))
        return of_sts(told, role, self._now)

    def _by_token(self, path: str, role: str, session: str) -> Looked:
        token = (yield from text_of(path)).strip()
        form = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": role, "RoleSessionName": session}
        return of_sts((yield self._sts({**form, "WebIdentityToken": token})), role, self._now)

    def _sts(self, form: Mapping[str, str]) -> WireRequest:
        usual = f"https://sts.{self._region}.{domain(self._region)}"
        return asking(self._environ.get("AWS_ENDPOINT_URL_STS") or usual, {**form, "Version": "2011-06-15"})


def domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _ini(told: Told, what: str) -> Profiles:
    if told.status != 200:
        return {}
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(told.body.decode())
    except (configparser.Error, UnicodeDecodeError):
        raise Unobtainable(f"the shared {what} file of AWS cannot be read") from None
    return {section: dict(parser[section]) for section in parser.sections()}
