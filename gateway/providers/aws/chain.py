"""Where keys to AWS come from, in the order of Amazon's own SDK for Python:

the environment · a role that the profile assumes · a web identity · single sign-on · the credentials file · a process ·
the config file · the container's endpoint · the machine's metadata (IMDSv2)

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html tells of each.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.core.address import WireRequest
from gateway.core.credential import Credential, Step, StepResult, Steps, Unobtainable
from gateway.providers.aws.answers import keys_of, of_sts
from gateway.providers.aws.places import Looked, by_process, container, domain, machine, text_of
from gateway.providers.aws.profiles import Shared, shared_files
from gateway.providers.aws.sign_on import single_sign_on
from gateway.providers.aws.sigv4 import Keys, signed
from gateway.providers.compatible import token_request

SESSION = "gatehouse"  # what a role's sessions are called in CloudTrail
REREAD = 600.0  # seconds that keys of the shared files are used: others may write new ones there

_KEYS = ("aws_access_key_id", "aws_secret_access_key")
_NOTHING: Mapping[str, str] = {}


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
        if not self.profile and (found := _of_environment(environ)):
            return found
        shared = yield from shared_files(environ)
        named = self.profile or environ.get("AWS_DEFAULT_PROFILE") or environ.get("AWS_PROFILE")
        if named and named not in shared.profiles:
            raise Unobtainable(f"no credentials: there is no profile {named!r} in the shared files")
        walk = _Walk(self.region, environ, now, shared)
        if found := (yield from walk.profile(named or "default", _NOTHING if self.profile else environ)):
            return found
        for look in (container, machine):
            if found := (yield from look(environ, now)):
                return found
        raise Unobtainable(
            "no credentials: looked everywhere; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or api_key of the "
            "provider"
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
    """One look through what the shared files say. Each place is None where it has nothing."""

    def __init__(self, region: str, environ: Mapping[str, str], now: float, shared: Shared) -> None:
        self._region, self._environ, self._now, self._shared = region, environ, now, shared

    def profile(self, name: str, identity: Mapping[str, str]) -> Looked:
        """`identity` may hold the variables of a web identity, which come before the profile's own."""
        profile = self._shared.profiles.get(name, {})
        if _assumes(profile):
            return (yield from self._assumed(name, profile, (name,)))
        return (yield from self._first(name, profile, identity))

    def _first(self, name: str, profile: Mapping[str, str], identity: Mapping[str, str]) -> Looked:
        """What a profile has but for a role that it assumes."""
        if found := (yield from self._web_identity(name, profile, identity)):
            return found
        if found := (yield from single_sign_on(name, profile, self._shared, self._environ, self._now)):
            return found
        if found := _written(name, self._shared.credentials.get(name, {})):
            return found
        if "credential_process" in profile:
            return (yield from by_process(name, profile["credential_process"], self._now))
        return _written(name, self._shared.config.get(name, {}))

    def _web_identity(self, name: str, profile: Mapping[str, str], identity: Mapping[str, str]) -> Looked:
        """As Kubernetes sets it up for a service account, by the environment; or the profile's own."""
        path = identity.get("AWS_WEB_IDENTITY_TOKEN_FILE") or profile.get("web_identity_token_file")
        if not path:
            return None
        role = identity.get("AWS_ROLE_ARN") or profile.get("role_arn")
        if not role:
            raise Unobtainable(
                f"profile {name!r}: a web identity is of no use without AWS_ROLE_ARN or role_arn"
            )
        token = (yield from text_of(path)).strip()
        session = identity.get("AWS_ROLE_SESSION_NAME") or profile.get("role_session_name") or SESSION
        form = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": role, "RoleSessionName": session}
        return of_sts((yield self._sts({**form, "WebIdentityToken": token})), role, self._now)

    def _assumed(self, name: str, profile: Mapping[str, str], seen: tuple[str, ...]) -> Looked:
        """Keys of a profile's role; `seen` are the profiles that have led here."""
        if "mfa_serial" in profile:
            raise Unobtainable(
                f"profile {name!r}: its role wants a code (mfa_serial), which nobody is here to type"
            )
        role, seconds = profile["role_arn"], profile.get("duration_seconds")
        if seconds is not None and not seconds.isdecimal():
            raise Unobtainable(f"profile {name!r}: duration_seconds must be a number, not {seconds!r}")
        base = yield from self._base(name, profile, seen)
        session = profile.get("role_session_name") or SESSION
        form = {"Action": "AssumeRole", "RoleArn": role, "RoleSessionName": session}
        for field, called in (("external_id", "ExternalId"), ("duration_seconds", "DurationSeconds")):
            if field in profile:
                form[called] = profile[field]
        wire = self._sts(form)
        result = yield replace(wire, head=wire.head + signed(base, wire, self._region, "sts", self._now))
        return of_sts(result, role, self._now)

    def _base(
        self, name: str, profile: Mapping[str, str], seen: tuple[str, ...]
    ) -> Generator[Step, StepResult, Keys]:
        """The keys that a profile's role is assumed with."""
        source, place = profile.get("source_profile"), profile.get("credential_source")
        if source and place:
            raise Unobtainable(f"profile {name!r}: source_profile and credential_source; leave one out")
        base = yield from self._source(name, source, seen) if source else self._by_name(place)
        if base is None:
            raise Unobtainable(f"profile {name!r}: nothing to assume its role with; give it a source_profile")
        keys: Keys = base.value
        return keys

    def _source(self, name: str, source: str, seen: tuple[str, ...]) -> Looked:
        """Keys of another profile. One that has keys of its own is asked for those, not for the role it assumes: so a
        profile may name itself."""
        profile = self._shared.profiles.get(source)
        if profile is None:
            raise Unobtainable(f"profile {name!r}: there is no source_profile {source!r}")
        has_keys = any(field in profile for field in _KEYS)
        if source in seen and not (source == name and has_keys):
            raise Unobtainable(f"profile {name!r}: roles lead to each other by {source!r}")
        if has_keys or not _assumes(profile):
            return (yield from self._first(source, profile, _NOTHING))
        return (yield from self._assumed(source, profile, (*seen, source)))

    def _by_name(self, source: str | None) -> Looked:
        if source == "Environment":
            return _of_environment(self._environ)
        if source == "EcsContainer":
            return (yield from container(self._environ, self._now))
        if source == "Ec2InstanceMetadata":
            return (yield from machine(self._environ, self._now))
        return None

    def _sts(self, form: Mapping[str, str]) -> WireRequest:
        usual = f"https://sts.{self._region}.{domain(self._region)}"
        return token_request(
            self._environ.get("AWS_ENDPOINT_URL_STS") or usual, {**form, "Version": "2011-06-15"}
        )


def _assumes(profile: Mapping[str, str]) -> bool:
    return "role_arn" in profile and "web_identity_token_file" not in profile


def _written(name: str, members: Mapping[str, str]) -> Credential | None:
    """Keys that a file holds."""
    found = (members.get(field) for field in (*_KEYS, "aws_session_token"))
    keys = keys_of(*found, whose=f"profile {name!r}")
    return Credential(keys, REREAD) if keys else None
