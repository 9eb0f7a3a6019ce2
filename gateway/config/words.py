"""The small words of policy files: durations, shares, days, and what is not built yet."""

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def seconds(value: object) -> float:
    """`1.5s` -> 1.5. Raises ValueError."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("must be a duration such as 500ms, 2s, 5m or 1h")
    found = float(match[1]) * _SECONDS[match[2]]
    if found <= 0:
        raise ValueError("must be longer than nothing")
    return found


def share(value: object) -> float:
    """`20%` -> 0.2. Raises ValueError."""
    match = _SHARE.fullmatch(str(value).strip())
    if match is None or float(match[1]) > 100:
        raise ValueError("must be a share such as 20%, at most 100%")
    return float(match[1]) / 100


def epoch(value: object) -> float:
    """The beginning of a day in UTC, or a moment, as seconds since the epoch. Raises ValueError."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a date such as 2027-01-31") from None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).timestamp()
    raise ValueError("must be a date such as 2027-01-31")


def not_built(what: str) -> Any:
    """A field of the contract that this version does not have: a clear error, never ignored."""

    def refuse(value: object) -> object:
        if value is not None:
            raise ValueError(f"{what} is not built yet; remove it")
        return value

    return BeforeValidator(refuse)


def _described(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"{pattern}|\\$\\{{", "examples": [example]})


Duration = Annotated[float, BeforeValidator(seconds), _described(r"^\d+(\.\d+)?\s*(ms|s|m|h)$", "1.5s")]
Share = Annotated[float, BeforeValidator(share), _described(r"^\d+(\.\d+)?\s*%$", "20%")]
Day = Annotated[float, BeforeValidator(epoch), WithJsonSchema({"type": "string", "format": "date"})]
Count = Annotated[int, Field(ge=1, strict=True)]
