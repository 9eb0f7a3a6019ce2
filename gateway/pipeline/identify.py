"""From a request's headers to who asks: key, team, user, metadata."""

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import orjson

from gateway.config.snapshot import Snapshot
from gateway.core.exchange import Caller
from gateway.core.failure import BadRequest, ConflictingKeys, Unauthorized
from gateway.core.head import Head
from gateway.core.key import KeyFacts

MOST_METADATA = 16
MOST_METADATA_CHARACTERS = 128

_KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")


class IssuedKeys(Protocol):
    """Keys made through the admin API."""

    def find(self, hash: str) -> KeyFacts | None: ...


class Identify:
    """Looks keys up by their SHA-256: a table of hashes gives nothing away by its timing."""

    def __init__(self, issued: IssuedKeys, wall_clock: Callable[[], float]) -> None:
        self._issued = issued
        self._now = wall_clock

    def caller(self, snapshot: Snapshot, head: Head) -> Caller:
        """Raises Unauthorized, ConflictingKeys, or BadRequest for metadata that is none."""
        digest = head.digest or _digest(head)
        facts = snapshot.keys.get(digest) or self._issued.find(digest)
        if facts is None or (facts.expires is not None and facts.expires <= self._now()):
            raise Unauthorized("this API key is not valid: unknown, revoked or expired")
        if facts.team not in snapshot.teams:
            raise Unauthorized(f'the team of this API key ("{facts.team}") is no longer there')
        raw = head.get(b"x-gateway-metadata")
        if raw is None:
            return _caller(facts.name, facts.team)
        metadata = parse_metadata(raw)
        return Caller(facts.name, facts.team, metadata.get("user", ""), metadata)


_caller = lru_cache(1024)(Caller)  # who says no more of themselves is the same with every call


def _digest(head: Head) -> str:
    """The hash of the key that is shown, noted beside it. Raises Unauthorized, ConflictingKeys."""
    token = presented(head)
    if not token:
        raise Unauthorized(
            "no API key came with this request; send one as 'Authorization: Bearer KEY'",
            code="missing_api_key",
        )
    head.digest = _hash(token)
    return head.digest


@lru_cache(1024)
def _hash(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()


def presented(head: Mapping[bytes, bytes]) -> bytes:
    """The one key a request presents, b"" for none. Raises ConflictingKeys."""
    scheme, _, token = head.get(b"authorization", b"").partition(b" ")
    found = token.strip() if scheme.lower() == b"bearer" else b""
    for name in _KEY_HEADERS:
        if name in head and (other := head[name].strip()):
            if found and other != found:
                raise ConflictingKeys("two different API keys came with this request; send one")
            found = other
    return found


def parse_metadata(raw: bytes) -> dict[str, str]:
    """`x-gateway-metadata`: at most 16 strings of at most 128 characters. Raises BadRequest."""
    try:
        metadata = orjson.loads(raw)
    except orjson.JSONDecodeError:
        metadata = None
    good = (
        isinstance(metadata, dict)
        and len(metadata) <= MOST_METADATA
        and all(
            isinstance(value, str) and max(len(name), len(value)) <= MOST_METADATA_CHARACTERS
            for name, value in metadata.items()
        )
    )
    if not good:
        raise BadRequest(
            f"x-gateway-metadata must be a JSON object of at most {MOST_METADATA} strings of at most "
            f"{MOST_METADATA_CHARACTERS} characters",
            code="invalid_metadata",
            param="x-gateway-metadata",
        )
    return dict(metadata)
