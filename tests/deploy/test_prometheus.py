"""Prometheus's configuration, rules and alerts, judged by its own tools."""

import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sql
import yaml

from gateway.core.meters import Meters
from gateway.core.tally import Counter
from gateway.state.sql import open_engine
from tests.deploy.promql import FOLDER, rules, unknown
from tests.deploy.stack import SECRETS, Stack
from tests.running import gateway, policies
from tests.scripted import Provider
from tests.shared import ROOT


def promtool(*words: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool on this machine; `apt-get install prometheus` brings it")
    return subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder as it is mounted, with a token where the configuration looks for one."""
    for file in FOLDER.iterdir():
        text = file.read_text().replace("/run/secrets", str(tmp_path))
        (tmp_path / file.name).write_text(text)
    (tmp_path / "metrics-token").write_text("x")
    return tmp_path


def test_the_configuration_passes_prometheus_own_check(copy: Path) -> None:
    checked = promtool("check", "config", str(copy / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr


def test_the_configuration_scrapes_what_the_compose_file_runs() -> None:
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for config in job["static_configs"] for target in config["targets"]}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert targets == {"gateway:8081", "local-backend:8000"}
    assert {target.split(":")[0] for target in targets} <= set(services)


def test_rules_and_alerts_do_what_their_tests_say(copy: Path) -> None:
    assert promtool("check", "rules", str(copy / "rules.yml")).returncode == 0
    tested = promtool("test", "rules", str(copy / "tests.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("> 14.4", "> 99"),
        ("ratio_rate6h > 6", "ratio_rate6h > 99"),
        ("circuit_state) > 0", "circuit_state) == 2"),
        ("store_errors_total[2m]", "store_errors_total[5m]"),
        ("policy_refused) > 0", "policy_refused) > 1"),
        ("absent(gateway_policy_info)", "absent(vector(1))"),
        ('result="dropped"', 'result="droped"'),
        ("> 300", "> 30000"),
        ("> 0.025", "> 0.5"),
    ],
)
def test_the_tests_of_the_rules_would_tell_a_mistake(copy: Path, right: str, wrong: str) -> None:
    text = (copy / "rules.yml").read_text()
    assert right in text
    (copy / "rules.yml").write_text(text.replace(right, wrong))
    assert promtool("check", "rules", str(copy / "rules.yml")).returncode == 0
    assert promtool("test", "rules", str(copy / "tests.yml")).returncode != 0


def test_every_alert_has_a_test_a_severity_and_words_for_whoever_is_woken() -> None:
    tests = yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]
    tried = [one for test in tests for one in test.get("alert_rule_test", [])]
    fired = {one["alertname"] for one in tried if one["exp_alerts"]}
    alerts = [rule for rule in rules() if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == fired
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_rules_ask_for_metrics_and_labels_that_exist() -> None:
    for rule in rules():
        assert not unknown(rule["expr"]), rule


def test_what_alerts_wait_for_is_there_as_zero_from_the_start() -> None:
    meters = Meters()
    for counter, labels in (
        (meters.policy_reloads, ("refused",)),
        (meters.usage_events, ("ledger", "dropped")),
        (meters.usage_events, ("spool", "dropped")),
        (meters.admission, ("in_flight",)),
        (meters.store_errors, ("local_share",)),
    ):
        assert isinstance(counter, Counter)
        assert counter.values[labels] == 0


async def test_a_ledger_that_takes_nothing_falls_behind_and_catches_up(tmp_path: Path) -> None:
    """The metric of GatewayUsageStuck."""
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        meters, collector = running.house.meters, running.collector
        engine = open_engine(f"sqlite:///{tmp_path / 'data/usage.db'}")

        def complete_up_to() -> float:
            age = meters.usage_oldest.read()[()]
            return time.perf_counter() - age

        with engine.begin() as connection:
            connection.execute(sql.text("ALTER TABLE usage RENAME TO gone"))
        assert (await running.chat()).status_code == 200, "a call does not wait for its account"
        spooled = time.perf_counter()
        await collector.flush()
        assert complete_up_to() < spooled, "a look that failed is none"
        with engine.begin() as connection:
            connection.execute(sql.text("ALTER TABLE gone RENAME TO usage"))
        await collector.flush()
        assert complete_up_to() >= spooled
        assert (await running.usage())["total"]["calls"] == 1
        engine.dispose()


def test_what_the_gateway_tells_passes_prometheus_own_check(stack: Stack) -> None:
    headers = {"authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"}
    text = httpx.get(f"{stack.url('8081')}/metrics", headers=headers).text
    checked = promtool("check", "metrics", given=text)
    assert checked.returncode == 0, checked.stdout + checked.stderr
