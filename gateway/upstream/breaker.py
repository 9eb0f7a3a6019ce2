"""Which targets are well: a circuit breaker, smoothed latency and calls in flight for each provider/model that is asked
for. Under a glob every model fails, rests and recovers by itself; operators are told of them as one target. Callers may
invent any number of such names: what is known of a thousand is kept.

closed -> open      5 failures in a row, or 5 streams cut in a row, or half of at least 20 calls within 10 s
open -> half-open   after 5 s, doubled at each relapse up to 60 s, with jitter
half-open           one probe at a time; its success closes the circuit, its failure opens it again
closed again        a growing share of the calls is let through over 10 s, so that a target that has just
                    recovered is not hit by everything at once
Besides, a target that said Retry-After rests that long.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

CONSECUTIVE = 5
WINDOW, ENOUGH, RATE = 10.0, 20, 0.5
FIRST_REST, LONGEST_REST = 5.0, 60.0
RAMP, FIRST_SHARE = 10.0, 0.1
SMOOTHING = 0.2  # weight of the newest latency
# Names passed through of which something is known; beyond, those with calls in flight alone.
MOST_PASSED = 1000
MADE_ROOM = MOST_PASSED // 4  # so many are forgotten at once, lest each new one look through all

CLOSED, HALF_OPEN, OPEN = 0, 1, 2
WORDS = ("closed", "half_open", "open")


@dataclass(slots=True)
class Condition:
    """What is known of one provider/model. Times are seconds of the breaker's clock."""

    asked: str
    target: str  # the configured one under whose name it is told
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

    @property
    def passed(self) -> bool:
        """Whether it is a name that the target passed through."""
        return self.asked != self.target


class Breaker:
    """One per process. `clock` gives monotonic seconds, `dice` a number in [0, 1). `asked` is provider/model, `target`
    the name of the configured one: the same, unless that passes names through."""

    def __init__(self, clock: Callable[[], float], dice: Callable[[], float]) -> None:
        self._clock, self._dice = clock, dice
        self._conditions: dict[str, Condition] = {}
        self._room = MOST_PASSED  # so many conditions there may be before some are forgotten
        self._drained: set[str] = set()

    def usable(self, asked: str, target: str) -> bool:
        """Whether a call may go there now (a probe included)."""
        one = self._conditions.get(asked)
        return not self._is_drained(asked, target) and (one is None or self._takes(one))

    def begin(self, asked: str, target: str, *, last: bool = False) -> bool:
        """Take a place there; False where it must be left alone. Ends with one of `fail` and `release`, or with
        `succeed` and then `leave`. After the `last` there is no other, so that a recovered one is not spared."""
        if self._drained and self._is_drained(asked, target):
            return False
        one = self._conditions.get(asked)
        if one is None:
            one = self._met(asked, target)
        elif not self._takes(one):
            return False
        if one.target != target == asked:
            one.target = target  # met under a glob at first, it has a name of its own
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

    def back(self, asked: str, target: str) -> float | None:
        """Seconds until a call may go there again, as far as that is known; None where an operator has the word."""
        if self._is_drained(asked, target):
            return None
        one = self._conditions.get(asked)
        if one is None:
            return 0.0
        return max(0.0, max(one.cool_until, one.until if one.state != CLOSED else 0.0) - self._clock())

    def _is_drained(self, asked: str, target: str) -> bool:
        return asked in self._drained or target in self._drained

    def _takes(self, one: Condition) -> bool:
        if one.cool_until and self._clock() < one.cool_until:
            return False
        return one.state == CLOSED or (self._clock() >= one.until and not one.probing)

    def succeed(self, asked: str, seconds: float) -> None:
        """It answers; `seconds` to the first byte. The place stays taken until `leave`."""
        one = self._conditions[asked]
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

    def leave(self, asked: str, cut: bool = False) -> None:
        """The answer is over: whole, or nobody reads it any more, or it was `cut` by the provider. A circuit that a
        first event closed is opened again by the cut that follows it."""
        one = self._conditions[asked]
        one.in_flight -= 1
        if not cut:
            one.cuts = 0
        elif one.state == CLOSED:
            one.cuts += 1
            self._count(one, 0, 1)
            self._judge(one)

    def fail(self, asked: str) -> None:
        one = self._conditions[asked]
        if self._ended_by_stray(one):
            return
        if one.state == HALF_OPEN:
            one.rest = min(one.rest * 2, LONGEST_REST)
            self._open(one)
            return
        one.in_a_row += 1
        self._count(one, 1, 1)
        self._judge(one)

    def release(self, asked: str) -> None:
        """The attempt says nothing about its health: the client left, or the call was at fault. A name of which
        nothing else is known leaves no trace: someone may have made it up."""
        one = self._conditions[asked]
        if not self._ended_by_stray(one):
            one.probing = False
        if one.passed and one == Condition(asked, one.target):
            del self._conditions[asked]

    def cool(self, asked: str, seconds: float) -> None:
        """It asked, in answer to a call that still has its place, to be left alone for so long."""
        one = self._conditions[asked]
        one.cool_until = max(one.cool_until, self._clock() + seconds)

    def drain(self, name: str, on: bool) -> None:
        """By an operator's word: no new calls to this target, with all that it passes through, or to this one model."""
        (self._drained.add if on else self._drained.discard)(name)

    def latency(self, asked: str) -> float | None:
        one = self._conditions.get(asked)
        return one.latency if one is not None else None

    def in_flight(self, asked: str) -> int:
        one = self._conditions.get(asked)
        return one.in_flight if one is not None else 0

    def report(self) -> list[dict[str, object]]:
        """For operators: every target that was ever called or is drained, under a glob as the worst of its models;
        besides, those of them that are not well."""
        told: dict[str, list[Condition]] = {name: [] for name in self._drained}
        for one in self._conditions.values():
            told.setdefault(one.target, []).append(one)
            if one.passed and (one.asked in self._drained or self._is_news(one)):
                told.setdefault(one.asked, []).append(one)
        return [self._row(name, ones) for name, ones in sorted(told.items())]

    def broken(self) -> set[str]:
        """Targets with a circuit that is not closed."""
        return {one.target for one in self._conditions.values() if self._state(one) != CLOSED}

    def states(self) -> list[tuple[tuple[str, ...], float]]:
        """For the gauge gateway_circuit_state, one per target; another thread may ask while conditions are added."""
        worst: dict[str, int] = {}
        for one in list(self._conditions.values()):
            worst[one.target] = max(self._state(one), worst.get(one.target, CLOSED))
        return [((name,), float(state)) for name, state in worst.items()]

    def _row(self, name: str, ones: Iterable[Condition]) -> dict[str, object]:
        longest = max([0.0, *(one.cool_until - self._clock() for one in ones)])
        slowest = max((one.latency for one in ones if one.latency is not None), default=None)
        return {
            "target": name,
            "circuit": WORDS[max((self._state(one) for one in ones), default=CLOSED)],
            "cooling_s": round(longest, 1),
            "latency_s": None if slowest is None else round(slowest, 4),
            "in_flight": sum(one.in_flight for one in ones),
            "drained": name in self._drained,
        }

    def _state(self, one: Condition) -> int:
        """As it is told. Only calls could close a circuit: under a glob, a name that nobody wants any more is no
        outage, and was perhaps never a model."""
        wanted = not one.passed or one.awaited or self._clock() < one.until + LONGEST_REST
        return one.state if wanted else CLOSED

    def _is_news(self, one: Condition) -> bool:
        return self._state(one) != CLOSED or one.cool_until > self._clock()

    def _met(self, asked: str, target: str) -> Condition:
        if len(self._conditions) >= self._room:
            self._make_room()
        if asked != target:  # which is told of from now on, whatever is forgotten
            self._conditions.setdefault(target, Condition(target, target))
        one = self._conditions[asked] = Condition(asked, target)
        return one

    def _make_room(self) -> None:
        """Forget names passed through that have no call in flight, first of those that are well, then of the others
        the ones that were asked for longest ago."""
        passed = [one for one in self._conditions.values() if one.passed]
        idle = sorted(
            (one for one in passed if not one.in_flight), key=lambda one: (self._is_news(one), one.since)
        )
        for one in idle[: max(0, len(passed) - MOST_PASSED + MADE_ROOM)]:
            del self._conditions[one.asked]
        self._room = len(self._conditions) + MADE_ROOM

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
