"""Metrics pushed by OTLP: our own tables, handed over whenever the interval comes round."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gateway.core.meters import Meters
from gateway.core.tally import Counter, Gauge, Histogram, Metric
from gateway.telemetry.otlp import is_wanted, resource

_LOG = logging.getLogger("gateway.telemetry")
DEFAULT_INTERVAL = 60.0  # seconds, as OTEL_METRIC_EXPORT_INTERVAL says in milliseconds


class Push:
    """A thread that exports; it reads the tables, which only ever grow."""

    def __init__(
        self, exporter: Any, meters: Meters, wall_clock: Callable[[], float], seconds: float
    ) -> None:
        self._exporter, self._meters, self._now = exporter, meters, wall_clock
        self._seconds = seconds
        self._resource = resource()  # once: it holds the name of this instance
        self._started = int(wall_clock() * 1e9)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls, environ: Mapping[str, str], meters: Meters, wall_clock: Callable[[], float]
    ) -> "Push | None":
        """None where they are not wanted. Raises ValueError."""
        if not is_wanted(environ, "METRICS"):
            return None
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        seconds = interval(environ)
        return cls(OTLPMetricExporter(), meters, wall_clock, seconds)

    def close(self) -> None:
        """Export once more, then end."""
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._export()
        self._export()
        self._exporter.shutdown()

    def _export(self) -> None:
        now = int(self._now() * 1e9)
        try:
            self._exporter.export(metrics_data(self._meters, self._resource, self._started, now))
        except Exception:  # the border of a thread: one export that fails must not be the last
            _LOG.exception("metrics were not pushed; the next interval tries again")


def interval(environ: Mapping[str, str]) -> float:
    """Seconds between exports. Raises ValueError."""
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL")
    if not text:
        return DEFAULT_INTERVAL
    with suppress(ValueError):
        if 0 < (milliseconds := float(text)) < 2**31:
            return milliseconds / 1000
    raise ValueError("OTEL_METRIC_EXPORT_INTERVAL: takes milliseconds, as 60000")


def metrics_data(meters: Meters, resource: Any, started: int, now: int) -> Any:
    """All tables as OpenTelemetry's MetricsData; times in nanoseconds."""
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    metrics = [made for metric in meters.all() if (made := _metric(metric, started, now)) is not None]
    scope = ScopeMetrics(InstrumentationScope("gatehouse"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(metric: Metric, started: int, now: int) -> Any:
    from opentelemetry.sdk.metrics import export as otel

    name = metric.name.removeprefix("gateway_").removesuffix("_total").removesuffix("_seconds")
    unit = "s" if metric.name.endswith("_seconds") else "1"
    values: dict[Any, Any] = dict(metric.read() if isinstance(metric, Gauge) else metric.values)
    if not values:
        return None
    data: Any
    if isinstance(metric, Histogram):
        points = [_point(metric, labels, row, started, now) for labels, row in values.items()]
        data = otel.Histogram(points, otel.AggregationTemporality.CUMULATIVE)
    else:
        numbers = [
            otel.NumberDataPoint(dict(zip(metric.labels, labels, strict=True)), started, now, value)
            for labels, value in values.items()
        ]
        is_sum = isinstance(metric, Counter)
        data = (
            otel.Sum(numbers, otel.AggregationTemporality.CUMULATIVE, True) if is_sum else otel.Gauge(numbers)
        )
    return otel.Metric(f"gateway.{name.replace('_', '.', 1)}", metric.help, unit, data)


def _point(metric: Histogram, labels: tuple[str, ...], row: list[float], started: int, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    counts = [int(count) for count in row[:-1]]
    attributes = dict(zip(metric.labels, labels, strict=True))
    # Own tables keep no smallest and largest value: the bounds of what there is say enough.
    return HistogramDataPoint(
        attributes,
        started,
        now,
        sum(counts),
        row[-1],
        counts,
        list(metric.bounds),
        0.0,
        float(metric.bounds[-1]),
    )
