"""Amazon Bedrock: the model stands in the path, and requests are signed or show an API key."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from gateway.core.credential import Source
from gateway.core.exchange import Call, Target
from gateway.core.failure import BadRequest, Failure
from gateway.providers.aws.chain import AwsChain, domain
from gateway.providers.compatible import Compatible, Endpoint, Place, keys_of

# Ids, inference profiles and ARNs (InvokeModel's reference, modelId). The name goes into a path: nothing in it may
# end that, or climb out of it once a proxy has decoded it.
_MODEL = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._:/-]{0,2047}")
_ACCOUNT = re.compile(rb"(\barn:aws[\w-]*:[\w-]*:[\w-]*:)\d{12}\b")


@dataclass(slots=True, frozen=True)
class AwsEndpoint:
    """What the policy file says. `endpoint` is another address than the region's own (a VPC endpoint, a proxy).
    Without `api_key` requests are signed with keys of the AWS credential chain, or of `profile`."""

    region: str
    endpoint: str = ""
    api_key: str | list[str] | None = field(default=None, repr=False)
    profile: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Region(Place):
    """`source` is where its keys come from; None where requests show an API key."""

    source: Source | None = None


@dataclass(slots=True, frozen=True)
class Bedrock(Compatible):
    spec: type[Any] = AwsEndpoint
    dialects: frozenset[str] = frozenset()
    native: str = "bedrock.converse"

    def speaks(self, dialect: str, model: str, facts: Any = None) -> str:
        return self.native

    def enabled(self, spec: Any) -> bool:
        """Without a key at all requests are signed; one that is given but empty is off."""
        return spec.api_key is None or bool(keys_of(spec.api_key))

    def facts(self, spec: Any) -> Region:
        """Raises ValueError that begins with the field's name."""
        if not spec.region.replace("-", "").isalnum() or not spec.region.isascii():
            raise ValueError('region: must be the name of a region, as "eu-central-1"')
        address = spec.endpoint or f"https://bedrock-runtime.{spec.region}.{domain(spec.region)}"
        try:
            # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
            place = Compatible.facts(self, Endpoint(address, spec.api_key, spec.headers, spec.params))
        except ValueError as error:
            raise ValueError(str(error).replace("base_url:", "endpoint:", 1)) from None
        source = None if keys_of(spec.api_key) else AwsChain(spec.region, "bedrock", spec.profile)
        return Region(place.origin, place.prefix, place.heads, place.secrets, place.params, source)

    def source(self, facts: Any) -> Source | None:
        found: Source | None = facts.source
        return found

    def path(self, target: Target, call: Call, spoken: str) -> str:
        """Raises BadRequest for a model that Bedrock could not have."""
        operation = "converse-stream" if call.stream else "converse"
        return f"/model/{_named(target.asked(call.model))}/{operation}"

    def classify(self, status: int, body: bytes) -> Failure:
        """A model that failed of itself is a 424."""
        return Failure.BROKEN if status == 424 else Compatible.classify(self, status, body)

    def mask(self, facts: Any, body: bytes) -> bytes:
        """ARNs tell the account; the keys of it are in no answer."""
        return _ACCOUNT.sub(rb"\1***", Compatible.mask(self, facts, body))


def _named(model: str) -> str:
    """As it stands in a path."""
    if not _MODEL.fullmatch(model):
        message = (
            "no model of Bedrock's; name an id, an inference profile or an ARN (letters, digits and ._:/-)"
        )
        raise BadRequest(message, code="invalid_value", param="model")
    return quote(model, safe="")
