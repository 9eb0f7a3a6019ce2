"""What an API key stands for once it is known."""

from typing import NamedTuple


class KeyFacts(NamedTuple):
    """`expires` is seconds since the epoch, None for never."""

    name: str
    team: str
    hash: str  # lower-case hex SHA-256 of the key
    expires: float | None = None
