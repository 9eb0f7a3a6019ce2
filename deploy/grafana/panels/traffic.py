"""How much is asked, by whom, and how fast answers come."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import CALLS, MODEL, quantile, quantiles, rate

TRAFFIC = Section(
    "Traffic",
    (
        Panel(
            "Calls by model",
            "Calls per second. Names that are not configured are counted as _other.",
            "reqps",
            (Query(rate("gateway_requests_total", CALLS, "model"), "{{model}}"),),
            stacked=True,
        ),
        Panel(
            "Calls by team",
            "Calls per second; calls without a valid key are counted as _other.",
            "reqps",
            (Query(rate("gateway_requests_total", CALLS, "team"), "{{team}}"),),
            stacked=True,
        ),
        Panel(
            "Calls in flight",
            "Calls being served now, over all workers. Each answers 503 past GATEWAY_MAX_IN_FLIGHT of its own.",
            "none",
            (Query("sum(gateway_inflight_requests)", "in flight"),),
        ),
        Panel(
            "Duration",
            "From the request's first byte to the answer's last, provider included.",
            "s",
            quantiles("gateway_request_duration_seconds", MODEL),
        ),
        Panel(
            "First token, p95",
            "From the request's first byte to a stream's first event, by model.",
            "s",
            (Query(quantile(0.95, "gateway_time_to_first_token_seconds", MODEL, "model"), "{{model}}"),),
        ),
        Panel(
            "Between tokens, p95",
            "Mean time between the events of one stream, by model.",
            "s",
            (Query(quantile(0.95, "gateway_inter_token_seconds", MODEL, "model"), "{{model}}"),),
        ),
    ),
)
