"""docs/operations.md and the links of all pages are true to the program."""

import re
from pathlib import Path

import orjson
import pytest

from gateway.admin.routes import TABLE
from gateway.core.failure import Failure
from gateway.core.meters import Meters
from gateway.settings import Settings
from gateway.usage.event import begun, ended
from tests.gateway.usage.books import call
from tests.shared import ROOT

TEXT = (ROOT / "docs/operations.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "gateway/HOUSE.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_setting_is_told_and_none_that_is_not_there() -> None:
    told = set(re.findall(r"^\| `(GATEWAY_\w+)`", TEXT, re.MULTILINE))
    assert told == {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}


def test_every_metric_is_told_and_none_that_is_not_there() -> None:
    assert set(re.findall(r"`(gateway_\w+)`", TEXT)) == {metric.name for metric in Meters().all()}


def test_every_field_of_a_call_and_every_result_of_an_attempt_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE))))
    one = call()
    fields = set(orjson.loads(ended(one, begun(one)))) - {"e", "v"}  # which are for those who read the spool
    assert fields <= told
    assert {failure.value for failure in Failure} | {"ok", "cut", "cancelled", "overran"} <= told


def test_every_family_of_admin_routes_is_told() -> None:
    for entry in TABLE:
        family = "/".join(entry.path.split("/")[:4])
        assert family in TEXT or family == "/", f"{entry.path} is told nowhere"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target} is not there"
