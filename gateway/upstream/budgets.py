"""How often what fails may be tried again at once."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.upstream.breaker import MOST_PASSED, WINDOW


class RetryBudgets:
    """Retries of one provider/model as a share of its calls of the last 10 s, at least 3: retries must not multiply an
    outage (the rule is Linkerd's and Envoy's). All are counted anew when callers have invented too many names."""

    LEAST = 3

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, Window] = {}

    def call(self, asked: str) -> None:
        self._window(asked).calls += 1

    def spend(self, asked: str, share: float) -> bool:
        """Take one retry; False where the budget is spent."""
        window = self._window(asked)
        if window.retries >= max(self.LEAST, int(window.calls * share)):
            return False
        window.retries += 1
        return True

    def _window(self, asked: str) -> "Window":
        now = self._clock()
        window = self._windows.get(asked)
        if window is None or now - window.since > WINDOW:
            if window is None and len(self._windows) >= MOST_PASSED:
                self._windows.clear()
            window = self._windows[asked] = Window(now)
        return window


@dataclass(slots=True)
class Window:
    """What one provider/model saw since `since`."""

    since: float
    calls: int = 0
    retries: int = 0
