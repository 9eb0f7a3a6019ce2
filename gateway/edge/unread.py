"""Clients that do not take what is written to them."""


class Unread:
    """What waits for one client. `lasts` is asked now and then."""

    __slots__ = ("_bytes", "_since")

    def __init__(self) -> None:
        self._bytes, self._since = 0, 0.0

    def lasts(self, waiting: int, now: float, longest: float) -> bool:
        """Whether nothing of these bytes has been taken for so many seconds."""
        if waiting != self._bytes or not waiting:
            self._bytes, self._since = waiting, now
        return now - self._since > longest
