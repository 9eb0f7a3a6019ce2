"""Google's access tokens: of a service account, of a person's own login, or of the machine's metadata server.

https://google.aip.dev/auth/4110 tells the order of places; 4111 and 4115 tell the exchanges.
"""

from base64 import urlsafe_b64encode
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.core.address import WireRequest
from gateway.core.credential import Credential, StepResult, Steps, Unobtainable
from gateway.providers.compatible import token_request

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ASKED_AT = "https://oauth2.googleapis.com/token"
METADATA = "metadata.google.internal"
LIFETIME = 3600  # seconds, the longest Google grants
_OWN = Path(".config/gcloud/application_default_credentials.json")
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(slots=True, frozen=True)
class ServiceAccount:
    email: str
    key: str = field(repr=False)  # PEM
    key_id: str = ""
    token_url: str = ASKED_AT


def service_account(text: str) -> ServiceAccount:
    """Raises ValueError that begins with the field's name."""
    found = _object(text.encode())
    if found.get("type") != "service_account":
        raise ValueError('credentials: must be the JSON of a service account key (its "type" says so)')
    try:
        account = _account(found)
        _signature(account, b"")
    except Unobtainable as error:
        raise ValueError(f"credentials: {error}") from None
    return account


@dataclass(slots=True, frozen=True)
class GoogleToken:
    """A token for all of Google Cloud. Without an account of its own it looks where Google's libraries do:
    GOOGLE_APPLICATION_CREDENTIALS, the login of `gcloud`, the metadata server."""

    account: ServiceAccount | None = None
    name = "Google"

    def obtain(self, now: float, environ: Mapping[str, str]) -> Steps:
        if self.account is not None:
            return (yield from _of_account(self.account, now))
        if named := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            result = yield Path(named)
            if result.status != 200:
                raise Unobtainable(f"GOOGLE_APPLICATION_CREDENTIALS names {named}: {result.body.decode()}")
            return (yield from _of_file(result.body, now))
        if home := environ.get("HOME"):
            result = yield Path(home) / _OWN
            if result.status == 200:
                return (yield from _of_file(result.body, now))
        return (yield from _of_machine(environ.get("GCE_METADATA_HOST") or METADATA))

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        line: bytes = value
        return line


def _of_file(content: bytes, now: float) -> Steps:
    found = _object(content)
    if found.get("type") == "service_account":
        return (yield from _of_account(_account(found), now))
    if found.get("type") == "authorized_user":
        fields = {name: found.get(name, "") for name in ("client_id", "client_secret", "refresh_token")}
        result = yield token_request(ASKED_AT, {"grant_type": "refresh_token", **fields})
        return _credential(result, "the login of gcloud")
    raise Unobtainable(
        f"credentials of type {str(found.get('type'))[:40]!r} are not supported; use a service account, "
        "gcloud auth application-default login, or the machine's own"
    )


def _of_account(account: ServiceAccount, now: float) -> Steps:
    result = yield token_request(
        account.token_url, {"grant_type": _GRANT, "assertion": assertion(account, now)}
    )
    return _credential(result, account.email)


def _of_machine(host: str) -> Generator[WireRequest | Path, StepResult, Credential]:
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    result = yield token_request(f"http://{host}{path}", None, (b"metadata-flavor", b"Google"))
    if not result.status:
        raise Unobtainable(
            "no credentials: this machine has no metadata server; set GOOGLE_APPLICATION_CREDENTIALS, or "
            "credentials of the provider"
        )
    return _credential(result, "the metadata server")


def assertion(account: ServiceAccount, now: float) -> str:
    """A signed JWT that asks for a token (RFC 7523)."""
    head = {"alg": "RS256", "typ": "JWT"} | ({"kid": account.key_id} if account.key_id else {})
    issued = int(now)
    claims = {"iss": account.email, "scope": SCOPE, "aud": account.token_url, "iat": issued,
              "exp": issued + LIFETIME}  # fmt: skip
    signed = b".".join(_base64(orjson.dumps(part)) for part in (head, claims))
    return (signed + b"." + _base64(_signature(account, signed))).decode()


def _credential(result: StepResult, whose: str) -> Credential:
    found = _object(result.body)
    token, seconds = found.get("access_token"), found.get("expires_in")
    if result.status != 200 or not isinstance(token, str) or not isinstance(seconds, int):
        why = found.get("error_description") or found.get("error") or f"status {result.status}"
        raise Unobtainable(f"no token for {whose}: {why}")
    return Credential(b"authorization: Bearer %b\r\n" % token.encode(), float(seconds))


def _account(found: Mapping[str, Any]) -> ServiceAccount:
    texts = [found.get(name) for name in ("client_email", "private_key")]
    if not all(isinstance(one, str) and one for one in texts):
        raise Unobtainable("client_email or private_key is missing")
    key_id, url = found.get("private_key_id") or "", found.get("token_uri") or ASKED_AT
    return ServiceAccount(str(texts[0]), str(texts[1]), str(key_id), str(url))


def _signature(account: ServiceAccount, message: bytes) -> bytes:
    from gateway.providers.vertex import rs256

    try:
        return rs256.sign(account.key, message)
    except ValueError:
        raise Unobtainable("private_key is no RSA key in PEM") from None


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _base64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
