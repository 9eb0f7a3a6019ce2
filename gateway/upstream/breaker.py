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
class Circuit:
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
        self._circuits: dict[str, Circuit] = {}
        self._room = MOST_PASSED  # so many circuits there may be before some are forgotten
        self._drained: set[str] = set()

    def usable(self, asked: str, target: str) -> bool:
        """Whether a call may go there now (a probe included)."""
        circuit = self._circuits.get(asked)
        return not self._is_drained(asked, target) and (circuit is None or self._takes(circuit))

    def begin(self, asked: str, target: str, *, last: bool = False) -> bool:
        """Take a place there; False where it must be left alone. Ends with one of `fail` and `release`, or with
        `succeed` and then `leave`. After the `last` there is no other, so that a recovered one is not spared."""
        if self._drained and self._is_drained(asked, target):
            return False
        circuit = self._circuits.get(asked)
        if circuit is None:
            circuit = self._new_circuit(asked, target)
        elif not self._takes(circuit):
            return False
        if circuit.target != target == asked:
            circuit.target = target  # met under a glob at first, it has a name of its own
        if circuit.state != CLOSED:
            circuit.state, circuit.probing = HALF_OPEN, True
        elif not last and circuit.recovered is not None:
            share = (self._clock() - circuit.recovered) / RAMP
            if share >= 1:
                circuit.recovered = None
            elif self._dice() > max(FIRST_SHARE, share):
                return False
        circuit.in_flight += 1
        circuit.awaited += 1
        return True

    def back(self, asked: str, target: str) -> float | None:
        """Seconds until a call may go there again, as far as that is known; None where an operator has the word."""
        if self._is_drained(asked, target):
            return None
        circuit = self._circuits.get(asked)
        if circuit is None:
            return 0.0
        return max(
            0.0, max(circuit.cool_until, circuit.until if circuit.state != CLOSED else 0.0) - self._clock()
        )

    def _is_drained(self, asked: str, target: str) -> bool:
        return asked in self._drained or target in self._drained

    def _takes(self, circuit: Circuit) -> bool:
        if circuit.cool_until and self._clock() < circuit.cool_until:
            return False
        return circuit.state == CLOSED or (self._clock() >= circuit.until and not circuit.probing)

    def succeed(self, asked: str, seconds: float) -> None:
        """It answers; `seconds` to the first byte. The place stays taken until `leave`."""
        circuit = self._circuits[asked]
        circuit.awaited -= 1
        seen = circuit.latency
        circuit.latency = seconds if seen is None else seen + SMOOTHING * (seconds - seen)
        if circuit.state == OPEN:
            circuit.strays -= 1  # an old answer is no reason to cut the rest short
            return
        if circuit.state == HALF_OPEN:
            circuit.state, circuit.probing, circuit.strays = CLOSED, False, 0
            circuit.recovered, circuit.rest = self._clock(), FIRST_REST
        circuit.in_a_row = 0
        self._count(circuit, 1, 0)

    def leave(self, asked: str, cut: bool = False) -> None:
        """The answer is over: whole, or nobody reads it any more, or it was `cut` by the provider. A circuit that a
        first event closed is opened again by the cut that follows it."""
        circuit = self._circuits[asked]
        circuit.in_flight -= 1
        if not cut:
            circuit.cuts = 0
        elif circuit.state == CLOSED:
            circuit.cuts += 1
            self._count(circuit, 0, 1)
            self._judge(circuit)

    def fail(self, asked: str) -> None:
        circuit = self._circuits[asked]
        if self._ended_by_stray(circuit):
            return
        if circuit.state == HALF_OPEN:
            circuit.rest = min(circuit.rest * 2, LONGEST_REST)
            self._open(circuit)
            return
        circuit.in_a_row += 1
        self._count(circuit, 1, 1)
        self._judge(circuit)

    def release(self, asked: str) -> None:
        """The attempt says nothing about its health: the client left, or the call was at fault. A name of which
        nothing else is known leaves no trace: someone may have made it up."""
        circuit = self._circuits[asked]
        if not self._ended_by_stray(circuit):
            circuit.probing = False
        if circuit.passed and circuit == Circuit(asked, circuit.target):
            del self._circuits[asked]

    def cool(self, asked: str, seconds: float) -> None:
        """It asked, in answer to a call that still has its place, to be left alone for so long."""
        circuit = self._circuits[asked]
        circuit.cool_until = max(circuit.cool_until, self._clock() + seconds)

    def drain(self, name: str, on: bool) -> None:
        """By an operator's word: no new calls to this target, with all that it passes through, or to this one model."""
        (self._drained.add if on else self._drained.discard)(name)

    def latency(self, asked: str) -> float | None:
        circuit = self._circuits.get(asked)
        return circuit.latency if circuit is not None else None

    def in_flight(self, asked: str) -> int:
        circuit = self._circuits.get(asked)
        return circuit.in_flight if circuit is not None else 0

    def report(self) -> list[dict[str, object]]:
        """For operators: every target that was ever called or is drained, under a glob as the worst of its models;
        besides, those of them that are not well."""
        told: dict[str, list[Circuit]] = {name: [] for name in self._drained}
        for circuit in self._circuits.values():
            told.setdefault(circuit.target, []).append(circuit)
            if circuit.passed and (circuit.asked in self._drained or self._is_news(circuit)):
                told.setdefault(circuit.asked, []).append(circuit)
        return [self._row(name, circuits) for name, circuits in sorted(told.items())]

    def broken(self) -> set[str]:
        """Targets with a circuit that is not closed."""
        return {circuit.target for circuit in self._circuits.values() if self._state(circuit) != CLOSED}

    def states(self) -> list[tuple[tuple[str, ...], float]]:
        """For the gauge gateway_circuit_state, one per target; another thread may ask while circuits are added."""
        worst: dict[str, int] = {}
        for circuit in list(self._circuits.values()):
            worst[circuit.target] = max(self._state(circuit), worst.get(circuit.target, CLOSED))
        return [((name,), float(state)) for name, state in worst.items()]

    def _row(self, name: str, circuits: Iterable[Circuit]) -> dict[str, object]:
        longest = max([0.0, *(circuit.cool_until - self._clock() for circuit in circuits)])
        slowest = max((circuit.latency for circuit in circuits if circuit.latency is not None), default=None)
        return {
            "target": name,
            "circuit": WORDS[max((self._state(circuit) for circuit in circuits), default=CLOSED)],
            "cooling_s": round(longest, 1),
            "latency_s": None if slowest is None else round(slowest, 4),
            "in_flight": sum(circuit.in_flight for circuit in circuits),
            "drained": name in self._drained,
        }

    def _state(self, circuit: Circuit) -> int:
        """As it is told. Only calls could close a circuit: under a glob, a name that nobody wants any more is no
        outage, and was perhaps never a model."""
        wanted = not circuit.passed or circuit.awaited or self._clock() < circuit.until + LONGEST_REST
        return circuit.state if wanted else CLOSED

    def _is_news(self, circuit: Circuit) -> bool:
        return self._state(circuit) != CLOSED or circuit.cool_until > self._clock()

    def _new_circuit(self, asked: str, target: str) -> Circuit:
        if len(self._circuits) >= self._room:
            self._make_room()
        if asked != target:  # which is told of from now on, whatever is forgotten
            self._circuits.setdefault(target, Circuit(target, target))
        circuit = self._circuits[asked] = Circuit(asked, target)
        return circuit

    def _make_room(self) -> None:
        """Forget names passed through that have no call in flight, first of those that are well, then of the others
        the ones that were asked for longest ago."""
        passed = [circuit for circuit in self._circuits.values() if circuit.passed]
        idle = sorted(
            (circuit for circuit in passed if not circuit.in_flight),
            key=lambda circuit: (self._is_news(circuit), circuit.since),
        )
        for circuit in idle[: max(0, len(passed) - MOST_PASSED + MADE_ROOM)]:
            del self._circuits[circuit.asked]
        self._room = len(self._circuits) + MADE_ROOM

    def _ended_by_stray(self, circuit: Circuit) -> bool:
        """Whether what ended without an answer counts as a call from before the opening. Calls carry no
        name, so while there are such calls the last to end is taken for the probe: one at a time holds."""
        circuit.in_flight -= 1
        circuit.awaited -= 1
        if circuit.state == CLOSED or not circuit.strays:
            return False
        circuit.strays -= 1
        return True

    def _count(self, circuit: Circuit, calls: int, failures: int) -> None:
        now = self._clock()
        if now - circuit.since > WINDOW:
            circuit.since, circuit.calls, circuit.failures = now, 0, 0
        circuit.calls += calls
        circuit.failures += failures

    def _judge(self, circuit: Circuit) -> None:
        often = circuit.calls >= ENOUGH and circuit.failures >= RATE * circuit.calls
        if often or circuit.in_a_row >= CONSECUTIVE or circuit.cuts >= CONSECUTIVE:
            self._open(circuit)

    def _open(self, circuit: Circuit) -> None:
        circuit.state, circuit.probing, circuit.strays = OPEN, False, circuit.awaited
        circuit.until = self._clock() + circuit.rest * (0.9 + 0.2 * self._dice())
        circuit.in_a_row = circuit.calls = circuit.failures = 0
