"""Places that keep keys to AWS and are asked for them: a container's endpoint, the machine, a process. Each yields what
is to be asked, and is None where it has nothing."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson

from gateway.core.address import WireRequest
from gateway.core.credential import Command, Credential, Step, StepResult, Unobtainable
from gateway.providers.aws.answers import of_json, read
from gateway.providers.compatible import header_value, host_line, parse_base_url

METADATA = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"
# Where a container's token may be shown in the clear: this machine, ECS and EKS, as in Amazon's own SDKs.
_NEAR = frozenset({"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
_TOKEN, _TTL = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"
_LIFETIME = "21600"  # the longest that IMDS gives

Environ = Mapping[str, str]
Looked = Generator[Step, StepResult, Credential | None]


def container(environ: Environ, now: float) -> Looked:
    """ECS and EKS Pod Identity. Raises Unobtainable."""
    url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if relative := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        url = CONTAINER + relative
    if not url:
        return None
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = (yield from text_of(path)).strip()
    asked = get(url, {"authorization": token} if token else {})
    if asked.origin.scheme != "https" and asked.origin.host not in _NEAR:
        raise Unobtainable("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of ECS or EKS")
    return of_json((yield asked), "the container's endpoint", now)


def machine(environ: Environ, now: float) -> Looked:
    """IMDSv2: a token first, then the name of the machine's role, then its keys. Raises Unobtainable."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    base = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA).rstrip("/")
    result = yield get(f"{base}/latest/api/token", {_TTL: _LIFETIME}, "PUT")
    if result.status != 200:
        return None
    token = {_TOKEN: result.body.decode("latin-1")}
    roles = f"{base}/latest/meta-data/iam/security-credentials/"
    result = yield get(roles, token)
    if result.status != 200:
        raise Unobtainable("the machine has no role; attach an instance profile to it")
    role = result.body.decode("utf-8", "replace").split("\n")[0].strip()
    result = yield get(roles + quote(role, safe="+=,"), token)
    return of_json(result, f"the machine's role {role}", now)


def by_process(name: str, line: str, now: float) -> Looked:
    """Keys that a program of the profile's owner writes. Raises Unobtainable."""
    result = yield Command(line)
    whose = f"profile {name!r}, whose credential_process was run"
    if result.status == 200 and read(result).get("Version") != 1:
        raise Unobtainable(f"no keys of {whose}: it wrote none of version 1")
    return of_json(result, whose, now)


def text_of(path: str) -> Generator[Step, StepResult, str]:
    """Raises Unobtainable for a file that cannot be read."""
    result = yield Path(path)
    if result.status != 200:
        raise Unobtainable(f"{path}: {result.body.decode('utf-8', 'replace')}")
    return result.body.decode("utf-8", "replace")


def get(url: str, headers: Mapping[str, str], method: str = "GET") -> WireRequest:
    """Raises Unobtainable for an address that is none, and for what no header can hold."""
    try:
        origin, _ = parse_base_url(url.partition("?")[0], "the address of credentials")
        lines = [f"{name}: ".encode() + header_value(name, value) for name, value in headers.items()]
    except ValueError as error:
        raise Unobtainable(str(error)) from None
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + host_line(origin)
    return WireRequest(origin, b"".join([head, b"accept-encoding: identity\r\n", *lines]), b"", 0)


def post(url: str, content: Mapping[str, str]) -> WireRequest:
    """JSON. Raises Unobtainable, as `get`."""
    body = orjson.dumps(content)
    asked = get(url, {"content-type": "application/json"}, "POST")
    return replace(asked, body=body, length=len(body))


def domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
