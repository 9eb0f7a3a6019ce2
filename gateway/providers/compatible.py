"""Providers that are an address and a credential in a header: OpenAI, who speaks like it, and Anthropic."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Source
from gateway.core.exchange import Call, Headers, Target
from gateway.core.failure import BadRequest, Failure
from gateway.providers.base import failure_from_status
from gateway.wire.base import PLAIN, Quirks
from gateway.wire.rerank import FORMATS, RERANK_DIALECTS

OPENAI_DIALECTS = frozenset({"openai.chat", "openai.completions", "openai.embeddings", "openai.raw"})
RANKING_DIALECTS = OPENAI_DIALECTS | RERANK_DIALECTS  # of those who took Cohere's route over
ANTHROPIC_DIALECTS = frozenset({"anthropic.messages", "anthropic.count_tokens"})
GEMINI_DIALECTS = frozenset(
    {"gemini.generate", "gemini.array", "gemini.count_tokens", "gemini.embed", "gemini.batch_embed"}
)
_EMBED = frozenset({"gemini.embed", "gemini.batch_embed"})  # go by chat's name to a provider's embeddings
# Where a translated call goes; one in the client's own dialect keeps its path.
_PATHS = {
    "openai.chat": "/chat/completions", "openai.embeddings": "/embeddings", "anthropic.messages": "/messages",
    "cohere.chat": "/chat", "cohere.embed": "/embed", "openai.responses": "/responses",
    **dict.fromkeys(FORMATS, "/rerank"),
}  # fmt: skip
# Organizations and projects as OpenAI and Groq name them in what they say of rate limits.
_ACCOUNT = re.compile(rb"\b((?:org|proj)[-_])[A-Za-z0-9]{8,}")
# A 429 that no waiting mends: the account is out of money, as a 402 is elsewhere.
_SPENT = re.compile(rb'"(?:type|code)"\s*:\s*"(?:insufficient_quota|credit_balance_exhausted)"')
# Names that go into a path: nothing in them may end it, or climb out of it once a proxy has decoded it.
IN_PATH = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._@:/-]{0,2047}")
_JSON = ((b"content-type", b"application/json"),)
_PORTS = {"http": 80, "https": 443}
_FORBIDDEN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-type"}
)
_OPENS = re.compile("auth|key|token|secret|cookie|password", re.IGNORECASE)  # names of such headers


@dataclass(slots=True, frozen=True)
class Endpoint:
    """What the policy file says. An `api_key` that is given but empty switches the provider off."""

    base_url: str = ""
    api_key: str | list[str] | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)
    responses: bool | Literal["only"] | None = None  # whether it serves /responses, or answers there alone


@dataclass(slots=True, frozen=True)
class Tenant(Endpoint):
    """Of a provider whose address holds the name of an account."""

    account: str = ""


@dataclass(slots=True, frozen=True)
class Place:
    """What a call needs of it: `heads` are ready header blocks, one per credential."""

    origin: Origin
    prefix: str
    heads: tuple[bytes, ...] = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    params: Mapping[str, Any] = field(default_factory=dict)
    responses: bool | Literal["only"] = field(default=False, kw_only=True)


@dataclass(slots=True, frozen=True)
class Compatible:
    """One row of the registry: the default address, whether a key must be there, how it calls the output
    bound, and how its HTTP differs from OpenAI's."""

    base_url: str = ""
    needs_key: bool = False
    cap_name: str = "max_tokens"
    quirks: Quirks = PLAIN
    spec: type[Endpoint] = Endpoint
    dialects: frozenset[str] = OPENAI_DIALECTS
    native: str = "openai.chat"
    responses: bool | Literal["only"] = False  # whether it serves /responses where the policy does not say
    rerank: str = ""  # the format of its rerank route, where that is one of its own
    root: str = ""  # of its paths, where the policy's base_url is the host alone
    credential: bytes = b"authorization: Bearer "
    renews: bool = False  # a credential of its own stands there where there is no key
    bad_key: bytes = b""  # what a 400 says that means a 401
    bad_call: bytes = b""  # what a 403 says that means a 400
    version: tuple[bytes, bytes] | None = None  # a header for calls whose client sends none
    names: re.Pattern[str] | None = None  # of its models, where they stand in paths
    no_name: str = (
        "no name of a model there: it stands in a path, which takes letters, digits and ._@:/- alone"
    )

    def speaks(self, dialect: str, model: str, facts: Place | None = None) -> str:
        responses = self.responses if facts is None else facts.responses
        if dialect == "openai.responses" and responses:
            return dialect
        if dialect in RERANK_DIALECTS and self.rerank:
            return self.rerank
        spoken = dialect if dialect in self.dialects or dialect == self.rerank else self.native
        only = responses == "only" and spoken == "openai.chat" and dialect not in _EMBED
        return "openai.responses" if only else spoken

    def misnamed(self, model: str) -> str:
        return "" if self.names is None or self.names.fullmatch(model) else self.no_name

    def named(self, target: Target, call: Call) -> str:
        """The model as it stands in a path. Raises BadRequest for one that cannot."""
        model = target.asked(call.model)
        if why := self.misnamed(model):
            raise BadRequest(why, code="invalid_value", param="model")
        return quote(model, safe="@")

    def enabled(self, spec: Endpoint) -> bool:
        keys = keys_of(spec.api_key)
        return bool(keys) if self.needs_key or spec.api_key is not None else True

    def facts(self, spec: Endpoint) -> Place:
        """Raises ValueError that begins with the field's name."""
        base_url, hidden = self._address(spec)
        origin, prefix = parse_base_url(base_url)
        keys = keys_of(spec.api_key)
        shown = self.credential.partition(b":")[0] if keys or self.renews else b""
        common = host_line(origin) + b"accept-encoding: identity\r\n" + own_headers(spec.headers, shown)
        heads = tuple(common + self.credential + header_value("api_key", key) for key in keys)
        secrets = secrets_of(spec.headers, *keys, *hidden)
        if spec.responses and self.native != "openai.chat":
            raise ValueError("responses: providers of this type do not serve it; leave it out")
        speaks = self.responses if spec.responses is None else spec.responses
        return Place(origin, prefix + self.root, heads or (common,), secrets, spec.params, responses=speaks)

    def _address(self, spec: Endpoint) -> tuple[str, list[str]]:
        """The address, and what of it is nobody's business."""
        base_url = spec.base_url or self.base_url
        if not base_url:
            raise ValueError('base_url: is missing; give the address up to the version, as "https://host/v1"')
        if "{account}" not in base_url:
            return base_url, []
        account = spec.account if isinstance(spec, Tenant) else ""
        if not re.fullmatch(r"[\w.-]+", account, re.ASCII):
            raise ValueError("account: must be the account's name as it stands in the provider's addresses")
        return base_url.replace("{account}", account), [account]

    def keys(self, facts: Place) -> int:
        return len(facts.heads)

    def source(self, facts: Any) -> Source | None:
        return None

    def params(self, facts: Place) -> Mapping[str, Any]:
        return facts.params

    def path(self, target: Target, call: Call, spoken: str) -> str:
        """What follows the prefix."""
        return call.path if spoken == call.dialect else _PATHS[spoken]

    def request(
        self, target: Target, call: Call, spoken: str, body: bytes, extra: Headers, turn: int
    ) -> WireRequest:
        place: Place = target.facts
        path = self.path(target, call, spoken)
        forward = call.forward if spoken == call.dialect else _JSON
        head = [f"{call.method} {place.prefix}{path} HTTP/1.1\r\n".encode("latin-1")]
        head.append(place.heads[turn % len(place.heads)])
        if self.version is not None and all(name != self.version[0] for name, _ in forward):
            head.append(b"%b: %b\r\n" % self.version)
        head += [b"%b: %b\r\n" % pair for pair in forward]
        head += [b"%b: %b\r\n" % pair for pair in extra]
        if isinstance(call.body, bytes):
            return WireRequest(place.origin, b"".join(head), body, len(body))
        stream, length = call.body.open(target.asked(call.model))
        return WireRequest(place.origin, b"".join(head), stream, length)

    def status(self, status: int, body: bytes) -> int:
        return status

    def classify(self, status: int, body: bytes) -> Failure:
        if status == 400 and self.bad_key and self.bad_key in body:
            return Failure.UNAUTHORIZED
        if status == 403 and self.bad_call and self.bad_call in body:
            return Failure.REJECTED
        if status == 429 and _SPENT.search(body):
            return Failure.UNAUTHORIZED
        return failure_from_status(status)

    def mask(self, facts: Place, body: bytes) -> bytes:
        """The provider's error text without our credentials and accounts, should it repeat them."""
        for secret in facts.secrets:
            if secret in body:
                body = body.replace(secret, b"***")
        return _ACCOUNT.sub(rb"\1***", body)


def parse_base_url(url: str, field: str = "base_url") -> tuple[Origin, str]:
    """`https://host:port/v1` -> (origin, "/v1"); `unix:/path.sock` -> (origin, "/v1"). Raises ValueError that
    begins with the field's name."""
    if url.startswith("unix:"):
        if len(url) == len("unix:"):
            raise ValueError(f'{field}: names no socket; write "unix:/path/to.sock"')
        return Origin("unix", "localhost", 0, url.removeprefix("unix:")), "/v1"
    if any(mark in url for mark in "@?#\\ ") or not url.isascii() or not url.isprintable():
        raise ValueError(f"{field}: must be a plain address without user, query, fragment or blanks")
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or ".." in parts.path:
        raise ValueError(f'{field}: must look like "https://host/v1"')
    try:
        port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    except ValueError:
        port = 0
    if not port:
        raise ValueError(f"{field}: the port must be a number from 1 to 65535")
    return Origin(parts.scheme, parts.hostname, port), parts.path.rstrip("/")


def token_request(url: str, form: Mapping[str, str] | None, *headers: tuple[bytes, bytes]) -> WireRequest:
    """For a token endpoint: a form that is posted, without one a GET. Raises ValueError."""
    origin, path = parse_base_url(url, "url")
    body = urlencode(form).encode() if form is not None else b""
    head = f"{'GET' if form is None else 'POST'} {path or '/'} HTTP/1.1\r\n".encode() + host_line(origin)
    head += b"accept-encoding: identity\r\n"
    head += b"".join(b"%b: %b\r\n" % pair for pair in headers)
    if form is not None:
        head += b"content-type: application/x-www-form-urlencoded\r\n"
    return WireRequest(origin, head, body, len(body))


def keys_of(api_key: str | list[str] | None) -> list[str]:
    keys = [api_key] if isinstance(api_key, str) else api_key or []
    return [key for key in keys if key]


def host_line(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    usual = _PORTS.get(origin.scheme, 0)
    return f"host: {host}{'' if origin.port == usual else f':{origin.port}'}\r\n".encode()


def secrets_of(headers: Mapping[str, str], *values: str) -> tuple[bytes, ...]:
    """What no error and no log may show: `values`, and those of a policy's own headers that open doors. What is shorter
    than a secret would hide words."""
    shown = [value.rpartition(" ")[2] for name, value in headers.items() if _OPENS.search(name)]
    return tuple(one.encode() for one in (*values, *shown) if len(one) >= 8)


def own_headers(headers: Mapping[str, str], shown: bytes) -> bytes:
    """Header lines of a policy; `shown` is the header in which the gateway itself shows a credential, b"" where it has
    none. Raises ValueError naming the field."""
    lines = []
    for name, value in headers.items():
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise ValueError(f"headers: {name!r} is no header name; rename it")
        if name.lower() in _FORBIDDEN_HEADERS:
            raise ValueError(f"headers: {name} is set by the gateway itself; leave it out")
        if name.lower().encode() == shown:
            told = "would stand twice, as the gateway shows the provider's own credential there; remove it"
            raise ValueError(f"headers.{name}: {told}, or the api_key")
        lines.append(f"{name.lower()}: ".encode() + header_value(f"headers.{name}", value))
    return b"".join(lines)


def header_value(field_name: str, value: str) -> bytes:
    """The rest of a header line. Raises ValueError naming the field, never the value: it may be a secret."""
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            f"{field_name}: holds characters that no header may carry; write Latin-1 alone"
        ) from None
    if any(byte < 32 or byte == 127 for byte in raw):
        raise ValueError(f"{field_name}: holds a control character (a line break, perhaps); remove it")
    return raw + b"\r\n"
