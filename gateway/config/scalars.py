"""The scalars of policy files as types: durations, shares, days, names, whole numbers."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from gateway.config.variables import Filled

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 86400.0
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ].*)?")


def seconds(value: object) -> float:
    """`1.5s` -> 1.5. Raises ValueError."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a duration; write it as 500ms, 2s, 5m or 1h")
    found = float(match[1]) * _SECONDS[match[2]]
    if not 0 < found <= _LONGEST:
        raise ValueError("must be longer than 0s and at most 24h")
    return found


def share(value: object) -> float:
    """`20%` -> 0.2. Raises ValueError."""
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("must be a share of at most 100%; write it as 20%")
    return float(match[1]) / 100


def epoch(value: object) -> float:
    """A day (its beginning in UTC) or a moment, as seconds since the epoch. Raises ValueError."""
    try:
        if not isinstance(value, str) or _DAY.fullmatch(value) is None:
            raise ValueError
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("must be a date; write it as 2027-01-31 (it begins at 00:00 UTC)") from None


def digest(value: object) -> str:
    """`sha256:HEX` -> HEX. Raises ValueError."""
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            'must be "sha256:" and 64 lower-case hex digits; printf %s KEY | sha256sum gives them'
        )
    return match[1]


def dimension(value: object) -> str:
    """What a rule counts apart. Raises ValueError."""
    if value in ("key", "team", "user", "model") or (
        isinstance(value, str) and value.startswith("metadata.") and len(value) > len("metadata.")
    ):
        return str(value)
    raise ValueError("must be one of key, team, user, model, metadata.NAME")


def plain(value: object) -> object:
    """What quoted text that was filled in stands for, deep inside of lists and mappings too; anything else as it is."""
    try:
        return _plain(value)
    except RecursionError:  # a call's body: policy files are not so deep, and nothing is filled in elsewhere
        return value


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, Filled):
        return value
    if value.isascii() and value.isdigit():
        return int(value) if len(value) < 20 else float(value)
    if _DECIMAL.fullmatch(value):
        return float(value)
    return {"true": True, "false": False}.get(value, value)


def _word(read: Callable[[object], Any], pattern: str, example: str) -> Any:
    """Metadata of a type that `read` makes of text that looks like `pattern`."""
    return BeforeValidator(read), WithJsonSchema(
        {"type": "string", "pattern": pattern, "examples": [example]}
    )


Duration = Annotated[float, *_word(seconds, r"^\d+(\.\d+)?\s*(ms|s|m|h)$", "1.5s")]
Share = Annotated[float, *_word(share, r"^\d+(\.\d+)?\s*%$", "20%")]
Day = Annotated[float, *_word(epoch, r"^\d{4}-\d{2}-\d{2}", "2027-01-31")]
Hash = Annotated[str, *_word(digest, r"^sha256:[0-9a-f]{64}$", "sha256:" + "0" * 64)]
Dimension = Annotated[str, *_word(dimension, r"^(key|team|user|model|metadata\..+)$", "key")]
Plain = BeforeValidator(plain)  # it stands after the bounds, so that these are the number's own in the schema
Flag = Annotated[bool, Plain]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Count = Annotated[int, Field(ge=1, le=10**12), Plain]
