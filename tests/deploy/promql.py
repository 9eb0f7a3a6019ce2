"""Which metrics and labels a query names, and which there are."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from gateway.core.meters import Meters
from gateway.core.tally import Histogram
from local_backend.metrics import Metrics
from tests.shared import ROOT

FOLDER = ROOT / "deploy/prometheus"
_LABELLED = re.compile(r"(\w+)\{(\w+)=")
_METRIC = re.compile(r"\b(?:gateway|backend)_[a-z0-9_]+")
_LABELS = re.compile(r"\bby \(([^)]*)\)|\{([^}]*)\}")
OF_PROMETHEUS = {"job", "instance"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics(query: str) -> set[str]:
    """Names as they are scraped; what recording rules made (with a colon) is none of them."""
    return set(_METRIC.findall(re.sub(r'gateway:[a-z_:0-9]+|"[^"]*"', "", query)))


def labels(query: str) -> set[str]:
    found: set[str] = set()
    for grouped, matched in _LABELS.findall(re.sub(r"gateway:[a-z_:0-9]+", "", query)):
        found |= {one.strip() for one in grouped.split(",") if one.strip()}
        found |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matched))
    return found


def known() -> dict[str, set[str]]:
    """Every series name that gateway and engine can give, with its labels."""
    names = dict(_of_the_gateway())
    for line in Metrics(phases={"plan": 0.0}).render().decode().splitlines():
        name, _, rest = line.removeprefix("# TYPE ").partition(" ")
        if line.startswith("# TYPE "):
            names |= dict(_series(name, rest == "histogram", set()))
        elif found := _LABELLED.match(line):
            names[found[1]] |= {found[2]}
    return names


def _of_the_gateway() -> Iterator[tuple[str, set[str]]]:
    for metric in Meters().all():
        yield from _series(metric.name, isinstance(metric, Histogram), set(metric.labels))


def _series(name: str, histogram: bool, labels: set[str]) -> Iterator[tuple[str, set[str]]]:
    if not histogram:
        yield name, labels | OF_PROMETHEUS
        return
    yield f"{name}_bucket", labels | OF_PROMETHEUS | {"le"}
    for end in ("sum", "count"):
        yield f"{name}_{end}", labels | OF_PROMETHEUS


def unknown(query: str) -> set[str]:
    """What a query asks for that nobody gives: metrics, and labels that none of its metrics has."""
    there, asked = known(), metrics(query)
    strange = asked - set(there)
    offered = set().union(*(there[name] for name in asked if name in there), OF_PROMETHEUS)
    return strange | (labels(query) - offered)
