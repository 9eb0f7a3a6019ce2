"""The engine's numbers, counted in plain integers and rendered as Prometheus text when asked."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)


@dataclass(slots=True)
class Histogram:
    """`counts` has one place more than `bounds`: for what is above all of them."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Laps:
    """Tells the seconds since the last lap apart by what they were spent on."""

    def __init__(self, clock: Callable[[], float], phases: dict[str, float]) -> None:
        self._clock, self._phases, self._last = clock, phases, clock()

    def __call__(self, phase: str) -> None:
        now = self._clock()
        self._phases[phase] = self._phases.get(phase, 0.0) + now - self._last
        self._last = now


@dataclass(slots=True)
class Metrics:
    running: int = 0
    waiting: int = 0
    blocks: int = 0
    blocks_used: int = 0
    preemptions: int = 0
    hit_tokens: int = 0
    asked_tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    drafts: int = 0
    drafts_drawn: int = 0
    aborts: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)  # seconds of steps, by what they were spent on
    finished: dict[str, int] = field(default_factory=dict)
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN))
    between: Histogram = field(default_factory=lambda: Histogram(BETWEEN))

    def render(self, restarts: int = 0) -> bytes:
        """`restarts`: how many engines came before this one; they took their numbers with them."""
        text = _Text()
        text.gauge("backend_running", "Requests being decoded.", self.running)
        text.gauge("backend_waiting", "Requests that wait for room.", self.waiting)
        text.gauge("backend_kv_blocks", "KV blocks there are.", self.blocks)
        text.gauge("backend_kv_blocks_used", "KV blocks in use.", self.blocks_used)
        ratio = self.blocks_used / self.blocks if self.blocks else 0.0
        text.gauge("backend_kv_cache_usage_ratio", "Share of the KV blocks in use.", ratio)
        text.counter("backend_preemptions_total", "Requests put back to wait.", self.preemptions)
        text.counter("backend_prefix_cache_hits_total", "Prompt tokens found in the cache.", self.hit_tokens)
        text.counter("backend_prefix_cache_queries_total", "Prompt tokens looked up.", self.asked_tokens)
        text.counter("backend_prompt_tokens_total", "Prompt tokens computed.", self.tokens_in)
        text.counter("backend_generation_tokens_total", "Tokens generated.", self.tokens_out)
        text.counter("backend_speculation_proposed_total", "Draft tokens tried.", self.drafts)
        text.counter("backend_speculation_accepted_total", "Draft tokens that were drawn.", self.drafts_drawn)
        text.counter("backend_aborts_total", "Requests whose client left.", self.aborts)
        text.counter("backend_steps_total", "Steps of the engine.", self.steps)
        text.counter("backend_step_seconds_total", "Seconds spent in steps.", self.step_seconds)
        text.labelled(
            "backend_step_phase_seconds_total", "Seconds spent in steps, by phase.", "phase", self.phases
        )
        text.counter("backend_restarts_total", "Engine processes that had to be replaced.", restarts)
        text.histogram(
            "backend_time_to_first_token_seconds", "From arrival to the first token.", self.first_token
        )
        text.histogram("backend_inter_token_seconds", "Between tokens of one request.", self.between)
        return text.encoded()


class _Text:
    """Prometheus' text format, metric by metric."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def encoded(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode()

    def gauge(self, name: str, help: str, value: float) -> None:
        self._head(name, help, "gauge")
        self._lines.append(f"{name} {value:g}")

    def counter(self, name: str, help: str, value: float) -> None:
        self._head(name, help, "counter")
        self._lines.append(f"{name} {value:g}")

    def labelled(self, name: str, help: str, label: str, values: Mapping[str, float]) -> None:
        """A counter for each value of a label."""
        self._head(name, help, "counter")
        self._lines += [f'{name}{{{label}="{one}"}} {value:g}' for one, value in sorted(values.items())]

    def histogram(self, name: str, help: str, found: Histogram) -> None:
        self._head(name, help, "histogram")
        seen = 0
        for bound, count in zip([*found.bounds, "+Inf"], found.counts, strict=True):
            seen += count
            self._lines.append(f'{name}_bucket{{le="{bound}"}} {seen}')
        self._lines += [f"{name}_sum {found.sum:g}", f"{name}_count {seen}"]

    def _head(self, name: str, help: str, kind: str) -> None:
        self._lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
