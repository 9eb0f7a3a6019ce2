"""Which targets are well: a circuit breaker, smoothed latency and calls in flight per target.

closed -> open      5 failures in a row, or 5 streams cut in a row, or half of at least 20 calls within 10 s
open -> half-open   after 5 s, doubled at each relapse up to 60 s, with jitter
half-open           one probe at a time; its success closes the circuit, its failure opens it again
closed again        a growing share of the calls is let through over 10 s, so that a target that has just
                    recovered is not hit by everything at once
Besides, a target that said Retry-After rests that long.
"""

from collections.abc import Callable
from dataclasses import dataclass

CONSECUTIVE = 5
WINDOW, ENOUGH, RATE = 10.0, 20, 0.5
FIRST_REST, LONGEST_REST = 5.0, 60.0
RAMP, FIRST_SHARE = 10.0, 0.1
SMOOTHING = 0.2  # weight of the newest latency

CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@dataclass(slots=True)
class Condition:
    """What is known of one target. Times are seconds of the breaker's clock."""

    state: int = CLOSED
    in_a_row: int = 0  # failures without an answer between them
    cuts: int = 0  # answers that broke, without one between them that did not
    since: float = 0.0  # start of the counting window
    calls: int = 0
    failures: int = 0
    until: float = 0.0  # open until then
    rest: float = FIRST_REST
    probing: bool = False
    strays: int = 0  # calls begun before it opened that have neither been answered nor ended yet
    recovered: float | None = None  # since then a growing share is let through
    cool_until: float = 0.0
    latency: float | None = None
    in_flight: int = 0
    awaited: int = 0  # of those in flight, the ones that have not been answered yet
    drained: bool = False


class Breaker:
    """One per process. `clock` gives monotonic seconds, `dice` a number in [0, 1)."""

    def __init__(self, clock: Callable[[], float], dice: Callable[[], float]) -> None:
        self._clock, self._dice = clock, dice
        self._targets: dict[str, Condition] = {}

    def usable(self, target: str) -> bool:
        """Whether a call may go there now (a probe included)."""
        one = self._targets.get(target)
        return one is None or self._takes(one)

    def begin(self, target: str, *, last: bool = False) -> bool:
        """Take a place at the target; False where it must be left alone. Ends with one of `fail` and `release`, or
        with `succeed` and then `leave`. After the `last` there is no other, so that a recovered one is not spared."""
        one = self._targets.get(target)
        if one is None:
            one = self._targets[target] = Condition()
        elif not self._takes(one):
            return False
        if one.state != CLOSED:
            one.state, one.probing = HALF_OPEN, True
        elif not last and one.recovered is not None:
            share = (self._clock() - one.recovered) / RAMP
            if share >= 1:
                one.recovered = None
            elif self._dice() > max(FIRST_SHARE, share):
                return False
        one.in_flight += 1
        one.awaited += 1
        return True

    def back(self, target: str) -> float | None:
        """Seconds until a call may go there again, as far as that is known; None where an operator has the word."""
        one = self._targets.get(target)
        if one is None:
            return 0.0
        until = max(one.cool_until, one.until if one.state != CLOSED else 0.0)
        return None if one.drained else max(0.0, until - self._clock())

    def _takes(self, one: Condition) -> bool:
        if one.drained or (one.cool_until and self._clock() < one.cool_until):
            return False
        return one.state == CLOSED or (self._clock() >= one.until and not one.probing)

    def succeed(self, target: str, seconds: float) -> None:
        """It answers; `seconds` to the first byte. The place stays taken until `leave`."""
        one = self._targets[target]
        one.awaited -= 1
        seen = one.latency
        one.latency = seconds if seen is None else seen + SMOOTHING * (seconds - seen)
        if one.state == OPEN:
            one.strays -= 1  # an old answer is no reason to cut the rest short
            return
        if one.state == HALF_OPEN:
            one.state, one.probing, one.strays = CLOSED, False, 0
            one.recovered, one.rest = self._clock(), FIRST_REST
        one.in_a_row = 0
        self._count(one, 1, 0)

    def leave(self, target: str, cut: bool = False) -> None:
        """The answer is over: whole, or nobody reads it any more, or it was `cut` by the target. A circuit that a first
        event closed is opened again by the cut that follows it."""
        one = self._targets[target]
        one.in_flight -= 1
        if not cut:
            one.cuts = 0
        elif one.state == CLOSED:
            one.cuts += 1
            self._count(one, 0, 1)
            self._judge(one)

    def fail(self, target: str) -> None:
        one = self._targets[target]
        if self._ended_by_stray(one):
            return
        if one.state == HALF_OPEN:
            one.rest = min(one.rest * 2, LONGEST_REST)
            self._open(one)
            return
        one.in_a_row += 1
        self._count(one, 1, 1)
        self._judge(one)

    def release(self, target: str) -> None:
        """The attempt says nothing about the target's health: the client left, or the call was at fault."""
        one = self._targets[target]
        if not self._ended_by_stray(one):
            one.probing = False

    def cool(self, target: str, seconds: float) -> None:
        """The target asked to be left alone for so long."""
        one = self._targets.setdefault(target, Condition())
        one.cool_until = max(one.cool_until, self._clock() + seconds)

    def drain(self, target: str, on: bool) -> None:
        """By an operator's word: no new calls."""
        self._targets.setdefault(target, Condition()).drained = on

    def latency(self, target: str) -> float | None:
        one = self._targets.get(target)
        return one.latency if one is not None else None

    def in_flight(self, target: str) -> int:
        one = self._targets.get(target)
        return one.in_flight if one is not None else 0

    def report(self) -> list[dict[str, object]]:
        """Every target that was ever called, for operators."""
        words = ("closed", "half_open", "open")
        return [
            {
                "target": name,
                "circuit": words[one.state],
                "cooling_s": round(max(0.0, one.cool_until - self._clock()), 1),
                "latency_s": None if one.latency is None else round(one.latency, 4),
                "in_flight": one.in_flight,
                "drained": one.drained,
            }
            for name, one in sorted(self._targets.items())
        ]

    def broken(self) -> set[str]:
        """Targets whose circuit is not closed."""
        return {name for name, one in self._targets.items() if one.state != CLOSED}

    def states(self) -> list[tuple[tuple[str, ...], float]]:
        """For the gauge gateway_circuit_state; another thread may ask while targets are added."""
        return [((name,), float(one.state)) for name, one in list(self._targets.items())]

    def _ended_by_stray(self, one: Condition) -> bool:
        """Whether what ended without an answer counts as a call from before the opening. Calls carry no
        name, so while there are such calls the last to end is taken for the probe: one at a time holds."""
        one.in_flight -= 1
        one.awaited -= 1
        if one.state == CLOSED or not one.strays:
            return False
        one.strays -= 1
        return True

    def _count(self, one: Condition, calls: int, failures: int) -> None:
        now = self._clock()
        if now - one.since > WINDOW:
            one.since, one.calls, one.failures = now, 0, 0
        one.calls += calls
        one.failures += failures

    def _judge(self, one: Condition) -> None:
        often = one.calls >= ENOUGH and one.failures >= RATE * one.calls
        if often or one.in_a_row >= CONSECUTIVE or one.cuts >= CONSECUTIVE:
            self._open(one)

    def _open(self, one: Condition) -> None:
        one.state, one.probing, one.strays = OPEN, False, one.awaited
        one.until = self._clock() + one.rest * (0.9 + 0.2 * self._dice())
        one.in_a_row = one.calls = one.failures = 0


class RetryBudgets:
    """Same-target retries as a share of the calls of the last 10 s, at least 3: retries must not multiply
    an outage (the rule is Linkerd's and Envoy's)."""

    LEAST = 3

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, Window] = {}

    def call(self, target: str) -> None:
        self._window(target).calls += 1

    def spend(self, target: str, share: float) -> bool:
        """Take one retry; False where the budget is spent."""
        window = self._window(target)
        if window.retries >= max(self.LEAST, int(window.calls * share)):
            return False
        window.retries += 1
        return True

    def _window(self, target: str) -> "Window":
        now = self._clock()
        window = self._windows.get(target)
        if window is None or now - window.since > WINDOW:
            window = self._windows[target] = Window(now)
        return window


@dataclass(slots=True)
class Window:
    """What one target saw since `since`."""

    since: float
    calls: int = 0
    retries: int = 0
