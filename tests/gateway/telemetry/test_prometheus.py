"""The text of /metrics: what Prometheus's own tool says of it, and what a scraper reads back."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.meters import Meters
from gateway.core.tally import Counter, Gauge, Histogram, merge, snapshot
from gateway.telemetry.prometheus import CONTENT_TYPE, of_engines, render
from tests.gateway.telemetry.scrape import Scrape


def rendered(*metrics: Counter | Gauge | Histogram) -> str:
    return render(metrics, merge(metrics, [snapshot(metrics)])).decode()


def raised() -> Meters:
    """Meters of which each has a series."""
    meters = Meters()
    for metric in meters.all():
        labels = tuple(f"{name}-value" for name in metric.labels)
        if isinstance(metric, Histogram):
            metric.observe(0.3, labels)
        elif isinstance(metric, Counter):
            metric.add(labels)
        else:
            metric.set(1, labels)
    return meters


def test_all_metrics_pass_prometheus_own_check() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool on this machine; `apt-get install prometheus` brings it")
    text = rendered(*raised().all())
    for good, given_text in ((True, text), (False, text.replace("# HELP", "# HOLP"))):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=given_text, capture_output=True, text=True, timeout=60
        )
        assert (checked.returncode == 0) is good, checked.stdout + checked.stderr


def test_a_counter_and_a_gauge_are_a_line_per_label_set() -> None:
    calls = Counter("calls_total", "Calls.", ("team", "outcome"), known=[("a", "ok")])
    calls.add(("b", "ok"), 2)
    load = Gauge("load", "Load.")
    load.set(0.25)
    assert rendered(calls, load) == (
        "# HELP calls_total Calls.\n"
        "# TYPE calls_total counter\n"
        'calls_total{team="a",outcome="ok"} 0\n'
        'calls_total{team="b",outcome="ok"} 2\n'
        "# HELP load Load.\n"
        "# TYPE load gauge\n"
        "load 0.25\n"
    )


def test_a_histogram_is_cumulative_and_its_last_bucket_is_its_count() -> None:
    times = Histogram("seconds", "Times.", (0.1, 1), ("team",))
    for value in (0.05, 0.1, 0.5, 3):
        times.observe(value, ("a",))
    assert rendered(times).splitlines()[2:] == [
        'seconds_bucket{team="a",le="0.1"} 2',
        'seconds_bucket{team="a",le="1"} 3',
        'seconds_bucket{team="a",le="+Inf"} 4',
        'seconds_sum{team="a"} 3.65',
        'seconds_count{team="a"} 4',
    ]


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_any_values_make_a_consistent_histogram(values: list[float]) -> None:
    times = Histogram("seconds", "Times.", (0.1, 1, 10))
    for value in values:
        times.observe(value)
    scrape = Scrape(rendered(times))
    if not values:
        assert not scrape.series
        return
    for bound in (0.1, 1, 10):
        assert scrape.value("seconds_bucket", le=str(bound)) == sum(value <= bound for value in values)
    assert scrape.value("seconds_bucket", le="+Inf") == scrape.value("seconds_count") == len(values)
    assert scrape.value("seconds_sum") == pytest.approx(sum(values))


@given(st.text())
def test_any_label_reads_back_as_it_was_and_breaks_no_line(label: str) -> None:
    calls = Counter("calls_total", "Calls.", ("team",))
    calls.add((label,))
    text = rendered(calls)
    assert text.count("\n") == 3
    assert Scrape(text).value("calls_total", team=label) == 1


def test_a_metric_without_series_is_still_described() -> None:
    assert rendered(Counter("calls_total", "Calls \\ and\nmore.")) == (
        "# HELP calls_total Calls \\\\ and more.\n# TYPE calls_total counter\n"
    )


def test_the_type_says_which_version_of_the_format_this_is() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


ENGINE = b"""# HELP backend_running Requests being decoded.
# TYPE backend_running gauge
backend_running 2
# HELP backend_ttft_seconds Time to the first token.
# TYPE backend_ttft_seconds histogram
backend_ttft_seconds_bucket{le="0.1"} 1
backend_ttft_seconds_bucket{le="+Inf"} 3
backend_ttft_seconds_sum 0.5
backend_ttft_seconds_count 3
"""


def test_several_engines_tell_each_metric_once_and_whose_each_sample_is() -> None:
    text = of_engines(
        {"small": ENGINE, 'a "b"': ENGINE.replace(b"running 2", b"running 5"), "gone": b""}
    ).decode()
    assert text.count("# HELP backend_running") == text.count("# TYPE backend_ttft_seconds") == 1
    found = Scrape(text)
    assert found.value("backend_running", provider="small") == 2
    assert found.value("backend_running", provider='a "b"') == 5
    assert found.value("backend_ttft_seconds_bucket", provider="small", le="+Inf") == 3
    lines = text.splitlines()
    assert [line.split("{")[0] for line in lines[2:4]] == ["backend_running"] * 2, (
        "samples of one metric stand together"
    )
    if shutil.which("promtool") is not None:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, timeout=60, check=False
        )
        assert checked.returncode == 0


def test_no_engine_tells_nothing() -> None:
    assert of_engines({}) == of_engines({"gone": b""}) == b""
