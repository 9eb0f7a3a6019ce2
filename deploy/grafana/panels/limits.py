"""What rules refused, and where they could not be applied as they are written."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import CALLS, often, rate

_LIMITED = f'{CALLS}, outcome="rate_limited"'

LIMITS = Section(
    "Limits",
    (
        Panel(
            "Decisions",
            "What the rate limits decided, per second. shadow_refused: it would have, were it in force.",
            "reqps",
            (Query(rate("gateway_ratelimit_decisions_total", "", "decision"), "{{decision}}"),),
            stacked=True,
        ),
        Panel(
            "Refused, by limit",
            "Refusals per second, shadow ones included.",
            "reqps",
            (
                Query(
                    often("gateway_ratelimit_decisions_total", 'decision=~".*refused"', "limit, decision"),
                    "{{limit}}: {{decision}}",
                ),
            ),
        ),
        Panel(
            "Share of calls limited, by team",
            "429 answers among all calls of a team.",
            "percentunit",
            (
                Query(
                    f"{rate('gateway_requests_total', _LIMITED, 'team')} / "
                    f"({rate('gateway_requests_total', CALLS, 'team')} > 0)",
                    "{{team}}",
                ),
            ),
        ),
        Panel(
            "Decisions without Redis",
            "Limits decided while the shared store was away, per second, by what the rule says then.",
            "reqps",
            (Query(often("gateway_store_errors_total", "", "mode"), "{{mode}}"),),
            width=12,
        ),
        Panel(
            "Conditions that fail",
            "CEL conditions of policies that could not be evaluated, per second: a mistake in a policy file.",
            "reqps",
            (Query(often("gateway_policy_eval_errors_total", "", "rule"), "{{rule}}"),),
            width=12,
        ),
    ),
)
