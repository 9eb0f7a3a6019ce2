"""Phrases that panels ask Prometheus in.

Idle is not failure: a ratio divides by `> 0`, so that it shows nothing where there is no traffic, and counts of
what may never happen end in `or on() vector(0)`: a zero until there is something with a name.
"""

from deploy.grafana.panels.base import Query

CALLS = 'model=~"$model", team=~"$team"'
MODEL = 'model=~"$model"'
FAULTS = "upstream_error|timeout|overloaded|gateway_error"  # outcomes that are not the caller's doing
REFUSED = "auth_denied|policy_denied|rate_limited|client_error"
SPAN = "[$__rate_interval]"


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """Per second, summed over what is not in `by`."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{labels}}}{SPAN}))"


def often(metric: str, labels: str = "", by: str = "") -> str:
    """A rate of what may never have happened: a flat zero then, and not an empty panel."""
    return f"{rate(metric, labels, by)} or on() vector(0)"


def quantile(q: float, metric: str, labels: str = "", by: str = "") -> str:
    group = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, group)})"


def quantiles(metric: str, labels: str = "") -> tuple[Query, ...]:
    return tuple(Query(quantile(q, metric, labels), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


def share(part: str, whole: str) -> str:
    return f"({part} or vector(0)) / ({whole} > 0)"
