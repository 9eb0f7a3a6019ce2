"""What the gateway itself costs a call."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import quantiles, rate

LATENCY = Section(
    "Added latency",
    (
        Panel(
            "Added time",
            "Time of a call that was spent waiting neither for a provider nor for its client: parsing, auth, "
            "policies, limits, relaying.",
            "s",
            quantiles("gateway_overhead_seconds", 'phase="total"'),
        ),
        Panel(
            "Added time, spread",
            "How many calls per second fell into which bucket.",
            "s",
            (Query(rate("gateway_overhead_seconds_bucket", 'phase="total"', "le"), "{{le}}"),),
            kind="heatmap",
        ),
        Panel(
            "Lateness of the event loop",
            "How late a timer fires in the worker processes: when this grows, a core is full.",
            "s",
            quantiles("gateway_event_loop_lag_seconds"),
        ),
    ),
)
