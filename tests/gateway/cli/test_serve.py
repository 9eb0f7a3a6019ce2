"""`gateway serve` used wrongly; what it does when it is used well is in tests/gateway/app/test_serve.py."""

from pathlib import Path

import pytest

from gateway.cli.main import main


@pytest.mark.parametrize(
    "name",
    [
        "GATEWAY_REDIS_URL",
        "GATEWAY_DATABASE_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    ],
)
def test_a_variable_that_is_wrong_is_named_and_is_wrong_use(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(name, "nonsense")
    policies = tmp_path / "policies"
    assert main(["init", str(policies)]) == 0
    assert main(["serve", "--config", str(policies), "--port", "0", "--admin-port", "0"]) == 2
    told = capsys.readouterr().err
    assert name in told
    assert "nonsense" not in told


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--port", "99999"], 'argument --port: takes a number from 0 to 65535, not "99999"'),
        (["--port", "-1"], 'argument --port: takes a number from 0 to 65535, not "-1"'),
        (["--admin-port", "x"], 'argument --admin-port: takes a number from 0 to 65535, not "x"'),
        (["--workers", "0"], 'argument --workers: takes a number from 1 to 1024, not "0"'),
        (["--workers", "2"], "more than one worker needs GATEWAY_REDIS_URL"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_use_ends_with_two_and_what_is_wrong(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATEWAY_REDIS_URL", raising=False)
    assert main(["serve", *words]) == 2
    assert complaint in capsys.readouterr().err
