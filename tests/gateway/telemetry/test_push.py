"""When metrics are pushed; what they tell is seen in whole gateways."""

import threading
from typing import Any

import pytest

from gateway.core.meters import Meters
from gateway.telemetry.push import Push

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize("interval", ["inf", "nan", "0", "-1", "1m"])
def test_an_interval_that_is_none_says_how_one_is_written(interval: str) -> None:
    with pytest.raises(ValueError, match=r"^OTEL_METRIC_EXPORT_INTERVAL: takes milliseconds, as 60000$"):
        Push.open({**ENDPOINT, "OTEL_METRIC_EXPORT_INTERVAL": interval}, Meters(), lambda: 0.0)


def test_nothing_is_pushed_without_an_address() -> None:
    assert Push.open({"OTEL_METRIC_EXPORT_INTERVAL": "5000"}, Meters(), lambda: 0.0) is None


class Exporter:
    """Fails at first."""

    def __init__(self) -> None:
        self.tries = 0
        self.pushed = threading.Event()

    def export(self, data: Any) -> None:
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("dictionary changed size during iteration")
        self.pushed.set()

    def shutdown(self) -> None: ...


def test_an_export_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter()
    push = Push(exporter, Meters(), lambda: 0.0, 0.001)
    assert exporter.pushed.wait(5)
    push.close()
    assert "metrics were not pushed; the next interval tries again" in caplog.text
