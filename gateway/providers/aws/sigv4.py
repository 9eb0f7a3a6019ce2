"""AWS Signature Version 4: what a request says and when, under a key that is good for one day, region and service.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html tells the steps.
"""

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from gateway.core.address import WireRequest

_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(NamedTuple):
    """What signs. `token` comes with keys that expire."""

    access_key: str
    secret: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Keys({self.access_key!r})"


def signed(keys: Keys, wire: WireRequest, region: str, service: str, now: float) -> bytes:
    """The header lines that sign this request; `now` is in seconds since the epoch, and a signature is good for
    five minutes about it. Signed are the host, the content type and Amazon's own headers: others may be added
    or changed on the way."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    own = {"x-amz-date": moment} | ({"x-amz-security-token": keys.token} if keys.token else {})
    line, *lines = wire.head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = dict(sorted({**dict(_signed_ones(lines)), **own}.items()))
    names = ";".join(headers)
    assert isinstance(wire.body, bytes)
    told = "\n".join(
        [*_target(line), *(f"{name}:{value}" for name, value in headers.items()), "", names, _hash(wire.body)]
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    summed = "\n".join([_ALGORITHM, moment, scope, _hash(told.encode())])
    key = f"AWS4{keys.secret}".encode()
    for part in (*scope.split("/"), summed):
        key = hmac.digest(key, part.encode(), "sha256")
    shown = f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return "".join(f"{name}: {value}\r\n" for name, value in {**own, "authorization": shown}.items()).encode()


def _target(line: str) -> Iterator[str]:
    """Method, path and query. All services but S3 encode once more what is encoded in the path already."""
    method, target, _ = line.split(" ")
    path, _, query = target.partition("?")
    yield method
    yield quote(path, safe="/~")
    yield "&".join(sorted(one if "=" in one else f"{one}=" for one in query.split("&") if one))


def _signed_ones(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("host", "content-type") or name.startswith("x-amz-"):
            yield name, " ".join(value.split())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
