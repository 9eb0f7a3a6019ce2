"""Keys for who has signed on (IAM Identity Center): the token that `aws sso login` leaves in its cache is shown to the
access portal, and renewed as Amazon's own tools do, so that they and we share one."""

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson

from gateway.core.credential import Step, StepResult, Unobtainable, WriteFile
from gateway.providers.aws.answers import of_portal, read
from gateway.providers.aws.places import Environ, Looked, domain, get, post
from gateway.providers.aws.profiles import Shared

_SHOWN = "x-amz-sso_bearer_token"  # the header that shows the token
_EARLY = 900.0  # seconds before its end in which a token is renewed
_NEEDED = ("sso_account_id", "sso_role_name", "sso_region", "sso_start_url")
_REGISTERED = ("clientId", "clientSecret", "registrationExpiresAt")  # stay as they are


def single_sign_on(
    name: str, profile: Mapping[str, str], shared: Shared, environ: Environ, now: float
) -> Looked:
    """Keys of a profile's role. None where it names no role; raises Unobtainable where it says half, or the sign-on
    has ended."""
    if "sso_account_id" not in profile and "sso_role_name" not in profile:
        return None
    said = _said(name, profile, shared)
    key = said.get("sso_session") or said["sso_start_url"]
    cache = Path(environ.get("HOME") or "/") / ".aws" / "sso" / "cache"
    file = cache / f"{sha1(key.encode(), usedforsecurity=False).hexdigest()}.json"
    token = yield from _token(file, said, environ, now)
    if token is None:
        raise Unobtainable(f"profile {name!r}: its sign-on has ended; run aws sso login --profile {name}")
    role, region = said["sso_role_name"], said["sso_region"]
    usual = f"https://portal.sso.{region}.{domain(region)}"
    asked = urlencode({"role_name": role, "account_id": said["sso_account_id"]})
    url = f"{environ.get('AWS_ENDPOINT_URL_SSO') or usual}/federation/credentials?{asked}"
    return of_portal((yield get(url, {_SHOWN: token})), f"profile {name!r}, role {role}", now)


def _said(name: str, profile: Mapping[str, str], shared: Shared) -> dict[str, str]:
    """What the profile says with the session that it names, or by itself in the older way."""
    session: Mapping[str, str] = {}
    if "sso_session" in profile:
        found = shared.sessions.get(profile["sso_session"])
        if found is None:
            raise Unobtainable(f"profile {name!r}: there is no sso-session {profile['sso_session']!r}")
        session = found
    for field, value in session.items():
        if profile.get(field, value) != value:
            raise Unobtainable(f"profile {name!r}: its {field} is another one than its sso-session's")
    said = {**profile, **session}
    if missing := [field for field in _NEEDED if field not in said]:
        raise Unobtainable(f"profile {name!r}: {missing[0]} is missing")
    return said


def _token(
    file: Path, said: Mapping[str, str], environ: Environ, now: float
) -> Generator[Step, StepResult, str | None]:
    """The token that is shown; None where it has ended. One of the older way cannot be renewed."""
    found = read((yield file))
    left = _moment(found.get("expiresAt")) - now
    if "sso_session" in said and left < _EARLY and (made := (yield from _renewed(found, said, environ, now))):
        yield WriteFile(file, orjson.dumps(made))
        found, left = made, _moment(made["expiresAt"]) - now
    token = found.get("accessToken")
    return token if isinstance(token, str) and left > 0 else None


def _renewed(
    found: Mapping[str, Any], said: Mapping[str, str], environ: Environ, now: float
) -> Generator[Step, StepResult, dict[str, Any] | None]:
    """The cache's next content; None where the token cannot be renewed: then what is left of it is used."""
    has_all = all(isinstance(found.get(field), str) for field in ("refreshToken", *_REGISTERED))
    if not has_all or _moment(found["registrationExpiresAt"]) <= now:
        return None
    region = said["sso_region"]
    usual = f"https://oidc.{region}.{domain(region)}"
    asked = {
        "grantType": "refresh_token",
        "clientId": found["clientId"],
        "clientSecret": found["clientSecret"],
        "refreshToken": found["refreshToken"],
    }
    result = yield post(f"{environ.get('AWS_ENDPOINT_URL_SSO_OIDC') or usual}/token", asked)
    given = read(result)
    token, lasts, refresh = (given.get(field) for field in ("accessToken", "expiresIn", "refreshToken"))
    if result.status != 200 or not isinstance(token, str) or not isinstance(lasts, int):
        return None
    ends = datetime.fromtimestamp(now + lasts, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = {"startUrl": said["sso_start_url"], "region": region, "accessToken": token, "expiresAt": ends}
    made |= {field: found[field] for field in _REGISTERED}
    return made | ({"refreshToken": refresh} if refresh else {})


def _moment(text: Any) -> float:
    """0 for what is no time. Amazon's tools write UTC, the older ones by that name."""
    try:
        read = datetime.fromisoformat(str(text).replace("UTC", "Z"))
    except ValueError:
        return 0.0
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
