"""The body that comes from one client: how fast, reckoned over the time in which we read."""

LEAST = 500  # bytes a second, on average: a tenth of what the poorest link brings


class Inflow:
    """Times are those of the event loop, in seconds. `drips` is asked now and then while we read."""

    __slots__ = ("_bytes", "_held", "_since")

    def __init__(self) -> None:
        self._bytes, self._since, self._held = 0, 0.0, 0.0

    def begin(self, now: float) -> None:
        self._bytes, self._since = 0, now

    def take(self, size: int) -> None:
        self._bytes += size

    def hold(self, now: float) -> None:
        """From now on we do not read."""
        self._held = now

    def go_on(self, now: float) -> None:
        """What we did not read is nobody's slowness."""
        self._since += now - self._held

    def drips(self, now: float, longest: float) -> bool:
        """Whether it has been under way for longer than so many seconds, and came too slowly."""
        lasted = now - self._since
        return lasted > longest and self._bytes < LEAST * lasted
