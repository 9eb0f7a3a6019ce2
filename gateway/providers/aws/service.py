"""What Amazon's services have in common: an address by region, requests that are signed, accounts that are nobody's
business."""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.credential import Source
from gateway.providers.aws.chain import AwsChain
from gateway.providers.aws.places import domain
from gateway.providers.compatible import Compatible, Endpoint, Place, keys_of

# In an ARN, and in what SageMaker says of a model that failed.
_ACCOUNT = re.compile(rb"(\barn:aws[\w-]*:[\w-]*:[\w-]*:|\baccount\W{1,8})\d{12}\b", re.IGNORECASE)


@dataclass(slots=True, frozen=True)
class Region(Place):
    """`source` is where its keys come from; None where requests show an API key."""

    source: Source | None = None


@dataclass(slots=True, frozen=True)
class Service(Compatible):
    """`host` is what its addresses begin with, `signs` what signatures call it."""

    dialects: frozenset[str] = frozenset()
    renews: bool = True
    host: str = ""
    signs: str = ""

    def enabled(self, spec: Any) -> bool:
        """Whether there are keys to sign with shows only when they are looked for."""
        return True

    def placed(self, spec: Any, api_key: str | list[str] | None = None) -> Region:
        """Raises ValueError that begins with the field's name."""
        if not spec.region.replace("-", "").isalnum() or not spec.region.isascii():
            raise ValueError('region: must be the name of a region, as "eu-central-1"')
        address = spec.endpoint or f"https://{self.host}.{spec.region}.{domain(spec.region)}"
        try:
            # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
            place = Compatible.facts(self, Endpoint(address, api_key, spec.headers, spec.params))
        except ValueError as error:
            raise ValueError(str(error).replace("base_url:", "endpoint:", 1)) from None
        source = None if keys_of(api_key) else AwsChain(spec.region, self.signs, spec.profile)
        return Region(place.origin, place.prefix, place.heads, place.secrets, place.params, source)

    def source(self, facts: Any) -> Source | None:
        found: Source | None = facts.source
        return found

    def status(self, status: int, body: bytes) -> int:
        """A model that failed is a 424, which may tell what the model's own server answered."""
        if status != 424:
            return status
        try:
            told = orjson.loads(body)
            own = told.get("OriginalStatusCode") or told.get("originalStatusCode")  # SageMaker's, Bedrock's
        except (orjson.JSONDecodeError, AttributeError):
            own = None
        return own if isinstance(own, int) and 400 <= own < 600 else 502

    def mask(self, facts: Any, body: bytes) -> bytes:
        return _ACCOUNT.sub(rb"\1***", Compatible.mask(self, facts, body))
