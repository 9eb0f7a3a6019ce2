"""Tokens of Microsoft's Entra: for an app with a secret, or for the machine's own managed identity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Credential, StepResult, Steps, Unobtainable

_LOGIN = Origin("https", "login.microsoftonline.com", 443)
# The instance metadata service of Azure's virtual machines, and its answer to whoever asks with `Metadata: true`.
_MACHINE = Origin("http", "169.254.169.254", 80)


@dataclass(frozen=True)
class Entra:
    """Without a secret the machine's identity is asked for: the one of `client_id`, where it has several."""

    tenant_id: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    audience: str = "https://cognitiveservices.azure.com"
    login: Origin = _LOGIN
    machine: Origin = _MACHINE

    @property
    def name(self) -> str:
        return f"Entra, app {self.client_id}" if self.client_secret else "Entra, this machine's identity"

    def obtain(self, now: float, environ: Mapping[str, str]) -> Steps:
        """Raises Unobtainable at any step."""
        return _token((yield self._of_app() if self.client_secret else self._of_machine()))

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        return b"authorization: Bearer %b\r\n" % value

    def _of_app(self) -> WireRequest:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": f"{self.audience}/.default",
        }
        head = (
            f"POST /{quote(self.tenant_id, safe='')}/oauth2/v2.0/token HTTP/1.1\r\nhost: {self.login.host}\r\n"
            "accept-encoding: identity\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        )
        body = urlencode(form).encode()
        return WireRequest(self.login, head.encode(), body, len(body))

    def _of_machine(self) -> WireRequest:
        asked = {"api-version": "2018-02-01", "resource": self.audience}
        if self.client_id:
            asked["client_id"] = self.client_id
        head = (
            f"GET /metadata/identity/oauth2/token?{urlencode(asked)} HTTP/1.1\r\n"
            f"host: {self.machine.host}\r\nmetadata: true\r\n"
        )
        return WireRequest(self.machine, head.encode(), b"", 0)


def _token(result: StepResult) -> Credential:
    try:
        answer = orjson.loads(result.body)
    except orjson.JSONDecodeError:
        answer = {}
    if result.status != 200 or not isinstance(answer, dict) or "access_token" not in answer:
        why = result.body.decode("utf-8", "replace") if not result.status else _reason(answer)
        raise Unobtainable(f"no token came (status {result.status}): {why}; check tenant, client and secret")
    return Credential(str(answer["access_token"]).encode(), float(answer.get("expires_in") or 0))


def _reason(answer: Any) -> str:
    """The code alone: descriptions repeat ids, and more."""
    return str(answer.get("error") or "no reason given") if isinstance(answer, dict) else "no reason given"
