"""Azure OpenAI and Foundry: the same calls at three shapes of address, with a key or a token of Entra."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.core.credential import Source
from gateway.core.exchange import Call, Target
from gateway.providers.compatible import (
    IN_PATH,
    Compatible,
    Place,
    header_value,
    host_line,
    keys_of,
    own_headers,
    parse_base_url,
    secrets_of,
)
from gateway.providers.entra import Entra

# Calls that name a deployment in their path; all others (files, batches, responses) do not.
_DEPLOYED = re.compile(r"/(?:chat/completions|completions|embeddings|audio/|images/)")
_VERSION = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(slots=True, frozen=True)
class AzureEndpoint:
    """`endpoint` is the resource's address, Foundry's with `/models` at its end. Without `api_version` the
    address is the newer one that needs none. No `api_key`: a token of Entra, for the app that `tenant_id`,
    `client_id` and `client_secret` name, else for the machine's own identity; `authority` and `audience` differ in
    clouds of their own."""

    endpoint: str
    api_version: str = ""
    api_key: str | list[str] | None = field(default=None, repr=False)
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    authority: str = "https://login.microsoftonline.com"
    audience: str = "https://cognitiveservices.azure.com"
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)
    responses: bool | Literal["only"] | None = None  # whether it serves /responses, or answers there alone


@dataclass(slots=True, frozen=True)
class AzurePlace(Place):
    query: str = ""  # "api-version=…"
    by_deployment: bool = False
    source: Source | None = None


@dataclass(slots=True, frozen=True)
class Azure(Compatible):
    spec: type[Any] = AzureEndpoint
    names: re.Pattern[str] | None = IN_PATH

    def enabled(self, spec: Any) -> bool:
        """Without a key at all it is Entra's tokens that are shown; one that is given but empty is off."""
        return spec.api_key is None or bool(keys_of(spec.api_key))

    def facts(self, spec: Any) -> AzurePlace:
        """Raises ValueError that begins with the field's name."""
        origin, path = parse_base_url(spec.endpoint, "endpoint")
        if spec.api_version and not _VERSION.fullmatch(spec.api_version):
            raise ValueError('api_version: must look like "2024-10-21"')
        foundry = path.endswith("/models")
        if foundry and not spec.api_version:
            raise ValueError(
                'api_version: is needed at an address that ends in /models, as "2024-05-01-preview"'
            )
        root = "" if foundry else "/openai" if spec.api_version else "/openai/v1"
        keys = keys_of(spec.api_key)
        shown = b"api-key" if keys else b"authorization"
        common = host_line(origin) + b"accept-encoding: identity\r\n" + own_headers(spec.headers, shown)
        heads = tuple(common + b"api-key: " + header_value("api_key", key) for key in keys)
        return AzurePlace(
            origin,
            path + root,
            heads or (common,),
            secrets_of(spec.headers, *keys, spec.client_secret),
            spec.params,
            f"api-version={spec.api_version}" if spec.api_version else "",
            by_deployment=bool(spec.api_version) and not foundry,
            source=None if keys else _entra(spec),
            responses=spec.responses or False,
        )

    def source(self, facts: Any) -> Source | None:
        found: Source | None = facts.source
        return found

    def path(self, target: Target, call: Call, spoken: str) -> str:
        place: AzurePlace = target.facts
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        path = Compatible.path(self, target, call, spoken)
        if place.by_deployment and target.asked(call.model) and _DEPLOYED.match(path):
            path = f"/deployments/{self.named(target, call)}{path}"
        if not place.query:
            return path
        return f"{path}{'&' if '?' in path else '?'}{place.query}"

    def params(self, facts: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = facts.params
        return found


def _entra(spec: AzureEndpoint) -> Entra:
    login, _ = parse_base_url(spec.authority, "authority")
    return Entra(spec.tenant_id, spec.client_id, spec.client_secret, spec.audience.rstrip("/"), login)
