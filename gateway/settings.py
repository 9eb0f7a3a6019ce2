"""Process settings from the environment, all prefixed GATEWAY_, read once at start. The only list of them."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

_SIZE = re.compile(r"(\d{1,18}) *([a-z]*)", re.ASCII)
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
# As browsers write one (html.spec.whatwg.org, "ASCII serialization of an origin"): no port that is the scheme's own.
_HOST = r"(\[[0-9a-f:.]+\]|[^\s/?#@*:A-Z\x80-\U0010ffff]+)"
_ORIGIN = re.compile(
    rf"\*|null|(?!https://.*:443$|http://.*:80$)[a-z][a-z0-9+.-]*://{_HOST}(:[1-9]\d*)?", re.ASCII
)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_FOR_EVER = 1_000_000  # days; a number that no process could be told is a slip
_PREFIX = "GATEWAY_"
_OF_COMMANDS = ("GATEWAY_ADMIN_URL",)  # read by the commands that ask a running gateway
# What Kubernetes tells each container of a Service called `gateway` or `gateway-...`. A GATEWAY_PORT that is
# no address was meant as a setting.
_OF_KUBERNETES = re.compile(
    r"GATEWAY(_\w+)?_(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT=(tcp|udp|sctp)://|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=).*",
    re.DOTALL,
)


def _size(value: object) -> int:
    """`32MiB` -> bytes; plain numbers are bytes. Raises ValueError."""
    match = _SIZE.fullmatch(str(value).strip().lower())
    if match is None or (match[2] or "b") not in _UNITS:
        raise ValueError("takes a size; write it as 32MiB, 64kb or a number of bytes")
    return int(match[1]) * _UNITS[match[2] or "b"]


def _seconds(value: object) -> float:
    """`30s`, `500ms` -> seconds; plain numbers are seconds. Raises ValueError."""
    text = str(value).strip().lower()
    digits = text.rstrip("mhs")
    with suppress(ValueError, KeyError):
        seconds = float(digits) * _SECONDS[text[len(digits) :] or "s"]
        if isfinite(seconds):
            return seconds
    raise ValueError("takes a time; write it as 500ms, 30s, 5m, 1h or a number of seconds")


def _token(text: str) -> str:
    """What no header can carry would open nothing. Raises ValueError."""
    if not (text.isascii() and text.isprintable() and text == text.strip()):
        raise ValueError(
            "takes printable ASCII without blanks around it; make one with: openssl rand -hex 32"
        )
    return text


def _origins(text: str) -> str:
    """What a browser would never send would never match. Raises ValueError."""
    for one in text.split(","):
        if one.strip() and not _ORIGIN.fullmatch(one.strip()):
            raise ValueError(
                "takes origins, or *; write each as https://app.example.com, no / at its end and no port that is "
                "the usual one"
            )
    return text


Size = Annotated[int, BeforeValidator(_size), Field(ge=1)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Token = Annotated[str, AfterValidator(_token)]
Origins = Annotated[str, AfterValidator(_origins)]


class Settings(BaseModel):
    """Field `max_body` is read from `GATEWAY_MAX_BODY`, and so on. Sizes take KiB/MiB/GiB, times ms/s/m/h."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Path = Path(".gateway")  # keys, spool, ledger, sockets; made 0700
    database_url: str = Field(default="", repr=False)  # default: SQLite in the data folder
    redis_url: str = Field(default="", repr=False)  # redis://, rediss://, unix://; for more than one worker
    admin_token: Token = Field(default="", repr=False)  # made and stored 0600 when absent
    metrics_token: Token = Field(default="", repr=False)  # a token that may read /metrics and nothing else
    max_body: Size = 32 << 20
    max_file: Size = 512 << 20  # bodies of files, uploads and audio
    max_bodies: Size = 1 << 30  # of all calls at once that come in pieces; half of it for one team
    max_in_flight: int = Field(default=4096, ge=1)  # calls served at once; past it a 503
    header_timeout: Seconds = 10.0  # until a request's head must be there
    body_timeout: Seconds = (
        30.0  # longest silence while a request body arrives, or time that it may come in drips
    )
    keep_alive: Seconds = 75.0  # idle client connections
    drain_timeout: Seconds = 30.0  # what calls in flight get after SIGTERM
    usage_retention_days: int = Field(default=400, ge=1, le=_FOR_EVER)
    responses_retention_days: int = Field(
        default=30, ge=0, le=_FOR_EVER
    )  # answers kept for Responses clients; 0: none
    responses_max_size: Size = 1 << 30  # of all of them; the oldest go first
    cors_origins: Origins = ""  # comma-separated origins, or *
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class BadSettings(Exception):
    """A GATEWAY_ variable that cannot be used, named."""


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """An empty variable is one that is not set: `${X:-}` of Compose leaves it there. The line break that secrets out of
    files end with belongs to none. Raises BadSettings naming the variable and what it takes, never its value."""
    values = {}
    for name, value in environ.items():
        field = name.removeprefix(_PREFIX).lower()
        if not name.startswith(_PREFIX):
            continue
        if field in Settings.model_fields:
            if value := value.rstrip("\r\n"):
                values[field] = value
        elif not _is_of_others(name, value):
            raise BadSettings(f"{name}: there is no such setting{_near(field)}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        raise BadSettings(f"{_PREFIX}{str(first['loc'][0]).upper()}: {said}") from None


def _is_of_others(name: str, value: str) -> bool:
    return name in _OF_COMMANDS or _OF_KUBERNETES.fullmatch(f"{name}={value}") is not None


def _near(field: str) -> str:
    near = get_close_matches(field, Settings.model_fields, n=1)
    return f"; did you mean {_PREFIX}{near[0].upper()}?" if near else ""
