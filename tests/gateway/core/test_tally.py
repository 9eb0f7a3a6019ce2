"""Counts are plain tables; those of several processes add up to one."""

import orjson

from gateway.core.tally import Counter, Gauge, Histogram, merge, snapshot


def test_a_counter_adds_up_by_its_labels_and_knows_some_from_the_start() -> None:
    calls = Counter("calls", "Calls.", ("team",), known=[("a",)])
    calls.add(("b",))
    calls.add(("b",), 2)
    assert calls.values == {("a",): 0, ("b",): 3}


def test_whoever_raises_the_same_labels_again_may_keep_their_place() -> None:
    calls, times = Counter("calls", "Calls.", ("team",)), Histogram("times", "Times.", (0.1, 1))
    kept, row = calls.at(("a",)), times.at()
    kept.n += 2
    calls.add(("a",))
    times.note(0.5, row)
    times.observe(0.5)
    assert (calls.values, times.values) == ({("a",): 3}, {(): [0, 2, 0, 1.0]})
    assert calls.at(("a",)) is kept


def test_a_gauge_is_set_by_hand_or_read_when_asked() -> None:
    gauge = Gauge("open", "Open.", ("pool",))
    gauge.set(2, ("a",))
    gauge.set(1, ("a",))
    assert gauge.read() == {("a",): 1}
    gauge.source = lambda: [(("b",), 7.0)]
    assert gauge.read() == gauge.values == {("b",): 7.0}


def test_a_histogram_counts_each_value_in_the_first_bucket_that_holds_it() -> None:
    times = Histogram("times", "Times.", (0.1, 1))
    for seconds in (0.05, 0.1, 0.5, 3):
        times.observe(seconds)
    assert times.values == {(): [2, 1, 1, 3.65]}


def test_several_processes_count_as_one() -> None:
    """Even where their labels come back from another process as lists."""

    def counted(calls: int, state: float, seconds: float) -> list[Counter | Gauge | Histogram]:
        counter, open_, worst = Counter("c", ""), Gauge("g", ""), Gauge("w", "", ("pool",), largest=True)
        times = Histogram("h", "", (1,))
        counter.add((), calls)
        open_.set(state)
        worst.set(state, ("a",))
        times.observe(seconds)
        return [counter, open_, worst, times]

    one, other = counted(1, 5, 0.5), counted(2, 3, 1.5)
    sent = [orjson.loads(orjson.dumps(snapshot(metrics))) for metrics in (one, other)]
    assert merge(one, sent) == {
        "c": {(): 3},
        "g": {(): 8},
        "w": {("a",): 5},
        "h": {(): [1, 1, 2.0]},
    }
    assert merge(one, []) == {}
