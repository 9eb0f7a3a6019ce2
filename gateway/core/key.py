"""What an API key stands for once it is known, and why one cannot be given or taken."""

from typing import NamedTuple


class KeyFacts(NamedTuple):
    """`expires` is seconds since the epoch, None for never."""

    name: str
    team: str
    hash: str  # lower-case hex SHA-256 of the key
    expires: float | None = None


class KeyTaken(ValueError):
    """A key of that name is in use."""


class KeyExpired(ValueError):
    """A key that ended by itself has no successor: that would end with it."""


class NoSuchKey(LookupError):
    """No key of that name is in use."""
