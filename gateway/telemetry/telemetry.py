"""Telemetry of one process, opened by the builder: recorder, sampler, exporters, log."""

import asyncio
from collections.abc import Callable, Mapping

from gateway.core.meters import Meters
from gateway.telemetry.logs import Log
from gateway.telemetry.otlp import is_wanted
from gateway.telemetry.push import Push, interval
from gateway.telemetry.record import Recorder
from gateway.telemetry.tracing import Sampler, Spans

LAG_PAUSE = 0.25  # seconds between looks at the loop's punctuality


class Telemetry:
    """What the corridor and the edge tell; what it becomes is decided by the OTEL_* variables."""

    def __init__(
        self, meters: Meters, log: Log, environ: Mapping[str, str], wall_clock: Callable[[], float]
    ) -> None:
        self._meters, self.log = meters, log
        self._spans = _spans(environ)
        self._push = Push.open(environ, meters, wall_clock)
        self._sampler = Sampler(environ, exporting=self._spans is not None)
        self.recorder = Recorder(meters, log, self._spans)
        self.record, self.refused = self.recorder.record, self.recorder.refused
        self.sample = self._sampler.sample

    async def watch_loop(self) -> None:
        """Measure how late timers fire; runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PAUSE
            await asyncio.sleep(LAG_PAUSE)
            self._meters.loop_lag.observe(max(0.0, loop.time() - due))

    async def aclose(self) -> None:
        """Send what is left, then close."""
        for exporter in (self._spans, self._push):
            if exporter is not None:
                await asyncio.to_thread(exporter.close)
        self.log.flush()


def check_otel(environ: Mapping[str, str]) -> None:
    """Read the OTEL_* variables, and open nothing. Raises ValueError naming the one that cannot be used."""
    Sampler(environ, exporting=is_wanted(environ, "TRACES"))
    if is_wanted(environ, "METRICS"):
        interval(environ)


def _spans(environ: Mapping[str, str]) -> Spans | None:
    if not is_wanted(environ, "TRACES"):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Spans(OTLPSpanExporter())
