"""Every query of the dashboard and every recorded rule, asked of a real Prometheus that scrapes a real gateway under
traffic of every kind."""

import asyncio
import json
import math
import re
import time
from typing import Any

import httpx

from deploy.grafana.dashboard import TARGET
from tests.deploy.promql import rules
from tests.deploy.stack import Stack
from tests.deploy.traffic import Traffic, traffic

WITHIN = 80.0  # seconds until everything must have shown; about 20 do on two cores
# What Grafana puts in the place of its variables, with a scrape a second and "All" chosen.
VARIABLES = {"$__rate_interval": "10s", "$__range": "1m", "$model": ".*", "$team": ".*"}
# Nothing waits in an engine that takes 64 requests at once, nor for a disk that has room; nothing is away while all is
# well, and no provider of the tests is opened by a token.
MAY_BE_ZERO = {
    "sum(backend_waiting)",
    'sum(up{job=~"gateway|local-backend"} == bool 0)',
    "sum(gateway_usage_waiting_events)",
    "sum by (result) (rate(gateway_credential_renewals_total{}[10s]))",
}


def queries() -> set[str]:
    """All queries of the file that Grafana reads, variables replaced, and the recorded series."""
    panels = json.loads(TARGET.read_text())["panels"]
    asked = {target["expr"] for panel in panels for target in panel.get("targets", [])}
    asked |= {rule["record"] for rule in rules() if "record" in rule}
    return {_filled(query) for query in asked}


def _filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def misspelt(query: str) -> str:
    return re.sub(r"\b(gateway|backend)(?=[_:])|\bup(?=\{)", r"not_\g<0>", query)


class Prometheus:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def values(self, query: str) -> list[float]:
        """One number per series. Fails the test for a query that Prometheus does not take."""
        answer = (await self._client.post("/api/v1/query", data={"query": query})).json()
        assert answer["status"] == "success", (query, answer)
        return [float(row["value"][1]) for row in answer["data"]["result"]]

    async def shows(self, query: str, *, zero: bool = False) -> bool:
        """Whether a panel with this query has something to draw."""
        finite = [value for value in await self.values(query) if math.isfinite(value)]
        return bool(finite) and (zero or any(finite))

    async def labels(self, name: str) -> set[str]:
        return set((await self._client.get(f"/api/v1/label/{name}/values")).json()["data"])

    async def targets(self) -> Any:
        return (await self._client.get("/api/v1/targets")).json()["data"]["activeTargets"]


async def test_every_panel_and_every_record_has_data(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url("9090"), timeout=10, trust_env=False) as client:
        prometheus = Prometheus(client)
        async with traffic(stack) as flow:
            missing = await _until_all_have_shown(prometheus, queries())
            assert not missing, f"{len(missing)} have no data: {sorted(missing)}"
            _saw_every_kind(flow)
            # The same queries with every name misspelt: were they found too, the test could not fail.
            found = [query for query in queries() if await prometheus.shows(misspelt(query))]
            assert not found
            assert {"smart", "demo", "_other"} <= await prometheus.labels("model")
            assert {"red", "blue", "small"} <= await prometheus.labels("team")
            assert [one["lastError"] for one in await prometheus.targets()] == ["", ""]


async def test_an_engine_that_dies_is_seen(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url("9090"), timeout=10, trust_env=False) as client:
        prometheus = Prometheus(client)
        stack.stop("local-backend")
        try:
            async with asyncio.timeout(20):
                while await prometheus.values('sum(up{job=~"gateway|local-backend"} == bool 0)') != [1.0]:
                    await asyncio.sleep(0.2)
        finally:
            stack.start("local-backend")


async def _until_all_have_shown(prometheus: Prometheus, wanted: set[str]) -> set[str]:
    """What has shown nothing by the deadline; a query counts as soon as it has shown something once."""
    until = time.monotonic() + WITHIN
    while wanted and time.monotonic() < until:
        for query in sorted(wanted):
            if await prometheus.shows(query, zero=query in MAY_BE_ZERO):
                wanted.discard(query)
        await asyncio.sleep(0.3)  # the next scrape is a second away
    return wanted


def _saw_every_kind(flow: Traffic) -> None:
    assert {200, 400, 401, 403, 404, 429, 503, 504} <= flow.statuses
    assert flow.statuses & {500, 502}
