"""What a translation costs: CPU microseconds over those of a call between equal dialects, for every way across.

A call is its request written for the provider and its whole answer told to the client, about a kilobyte each; a
chunk is one event of a stream with a word of text. No socket is touched; the process's own CPU time is taken, and
of the rounds the median.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from rich.console import Console
from rich.table import Table

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.providers.registry import PROVIDERS
from gateway.wire.base import Asked, Changes, Way
from gateway.wire.registry import BACKS, DIALECTS, FRONTS, between
from loadtests.answers import ANSWERS, stream
from loadtests.calls import CALLS, MODEL

MOST_PER_CALL, MOST_PER_CHUNK = 100.0, 10.0  # microseconds over identity
PIECES = 400  # events of a stream


@dataclass
class Cost:
    """One way from a client to a provider, an entry per round."""

    front: str
    back: str
    call_us: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.call_us), statistics.median(self.chunk_us)


def run(rounds: int, calls: int) -> int:
    """0: every way keeps within the goals; 1: one does not."""
    spoken = sorted(BACKS)
    costs = [
        Cost(front, back) for front in FRONTS for back in [front, *(one for one in spoken if one != front)]
    ]
    gc.disable()  # as it would fall on some rounds and not on others
    for cost in [*costs, *costs * rounds]:  # the first round warms up
        way = DIALECTS[cost.front] if cost.back == cost.front else between(cost.front, cost.back)
        cost.call_us.append(_calls(way, cost, calls))
        cost.chunk_us.append(_chunks(way, cost, calls // 100))
        gc.collect()
    for cost in costs:
        del cost.call_us[0], cost.chunk_us[0]
    return _show(costs, rounds)


def _calls(way: Way, cost: Cost, times: int) -> float:
    body, answer = orjson.dumps(CALLS[cost.front]), orjson.dumps(ANSWERS[cost.back])
    payload = orjson.loads(body)
    call = Call("chat", cost.front, "POST", "/", body, payload, MODEL, False)
    changes = Changes(MODEL, cap_name=PROVIDERS["openai"].cap_name)

    def once() -> None:
        way.write(call, changes)
        way.tap(Asked(payload, Usage(), moment=1764000000, ident="0" * 32)).whole(answer)

    return _cpu(once, times) * 1e6


def _chunks(way: Way, cost: Cost, times: int) -> float:
    chunks, asked = stream(cost.back, PIECES), CALLS[cost.front]

    def once() -> None:
        tap = way.tap(Asked(asked, Usage(), moment=1764000000, ident="0" * 32))
        for chunk in chunks:
            tap.feed(chunk)
        tap.rest()
        assert tap.finished

    return _cpu(once, times) / len(chunks) * 1e6


def _cpu(once: Callable[[], None], times: int) -> float:
    """Seconds of CPU for one."""
    before = time.process_time()
    for _ in range(times):
        once()
    return (time.process_time() - before) / times


def _show(costs: list[Cost], rounds: int) -> int:
    identity = {cost.front: cost.medians for cost in costs if cost.front == cost.back}
    table = Table(title=f"CPU us over identity, medians of {rounds} rounds")
    for name in ("client", "provider", "a call", "a chunk", "identity: a call", "a chunk"):
        table.add_column(name, justify="left" if name in ("client", "provider") else "right")
    worst_call = worst_chunk = 0.0
    for cost in costs:
        if cost.back == cost.front:
            continue
        (same_call, same_chunk), (call, chunk) = identity[cost.front], cost.medians
        worst_call, worst_chunk = max(worst_call, call - same_call), max(worst_chunk, chunk - same_chunk)
        figures = (call - same_call, chunk - same_chunk, same_call, same_chunk)
        table.add_row(cost.front, cost.back, *(f"{one:.1f}" for one in figures))
    Console(width=100).print(table)
    print(f"worst: {worst_call:.1f} us a call (goal {MOST_PER_CALL:g}), "
          f"{worst_chunk:.1f} us a chunk (goal {MOST_PER_CHUNK:g})")  # fmt: skip
    return int(worst_call > MOST_PER_CALL or worst_chunk > MOST_PER_CHUNK)
