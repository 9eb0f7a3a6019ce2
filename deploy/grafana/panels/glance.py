"""What an operator sees first: whether anything is wrong at all."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import CALLS, FAULTS, quantile, rate, share

_ALL = rate("gateway_requests_total", CALLS)
_FAILED = rate("gateway_requests_total", f'{CALLS}, outcome=~"{FAULTS}"')

GLANCE = Section(
    "At a glance",
    (
        Panel(
            "Calls",
            "Calls per second that ended, however they ended.",
            "reqps",
            (Query(_ALL),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Without fault",
            "Share of calls that did not fail on our side or a provider's. Refusals and clients that left count "
            "as good: the gateway did what it should. The objective is 99.5 %.",
            "percentunit",
            (Query(f"1 - ({share(_FAILED, _ALL)})"),),
            kind="stat",
            width=4,
            height=4,
            limits=(0.995, 0.98),
        ),
        Panel(
            "Added time, p99",
            "Time of a call that was spent waiting neither for a provider nor for its client: what the gateway "
            "itself costs.",
            "s",
            (Query(quantile(0.99, "gateway_overhead_seconds", 'phase="total"')),),
            kind="stat",
            width=4,
            height=4,
            limits=(0.005, 0.025),
        ),
        Panel(
            "In flight",
            "Calls being served now, over all workers.",
            "none",
            (Query("sum(gateway_inflight_requests)"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Circuits open",
            "Targets that get no calls now because they failed too often.",
            "none",
            (Query("sum(gateway_circuit_state == bool 2)"),),
            kind="stat",
            width=4,
            height=4,
            limits=(1, 2),
        ),
        Panel(
            "Scrapes that fail",
            "Processes that Prometheus cannot read. Their numbers are missing in all panels below.",
            "none",
            (Query('sum(up{job=~"gateway|local-backend"} == bool 0)'),),
            kind="stat",
            width=4,
            height=4,
            limits=(1, 2),
        ),
    ),
)
