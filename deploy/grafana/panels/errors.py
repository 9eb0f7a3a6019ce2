"""What went wrong, by whose doing, and how much of it the objective still allows."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import CALLS, FAULTS, MODEL, REFUSED, often

ERRORS = Section(
    "Errors",
    (
        Panel(
            "Faults",
            "Calls per second that failed on our side or a provider's.",
            "reqps",
            (
                Query(
                    often("gateway_requests_total", f'{CALLS}, outcome=~"{FAULTS}"', "outcome"),
                    "{{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Refused, or gone",
            "Calls per second that were refused (key, policy, limit, bad request), or whose client hung up.",
            "reqps",
            (
                Query(
                    often(
                        "gateway_requests_total", f'{CALLS}, outcome=~"{REFUSED}|client_cancelled"', "outcome"
                    ),
                    "{{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Burn of the error budget",
            "How many times faster than allowed faults come, against an objective of 99.5 %. 1 uses up the budget "
            "exactly; 14.4 over 5 minutes and an hour wakes somebody. For all models and teams.",
            "none",
            tuple(
                Query(f"gateway:faults:ratio_rate{span} / 0.005", span) for span in ("5m", "30m", "1h", "6h")
            ),
        ),
        Panel(
            "Failed attempts",
            "Requests to providers per second that did not succeed, by kind of failure. A call may still succeed by "
            "a retry or another target.",
            "reqps",
            (
                Query(
                    often("gateway_upstream_attempts_total", 'result!="ok"', "provider, result"),
                    "{{provider}}: {{result}}",
                ),
            ),
        ),
        Panel(
            "Retries and fallbacks",
            "Second tries at the same target, and calls that went on to another, per second and by reason.",
            "reqps",
            (
                Query(often("gateway_retries_total", "", "reason"), "retry: {{reason}}"),
                Query(often("gateway_fallbacks_total", "", "from, to"), "{{from}} to {{to}}"),
            ),
        ),
        Panel(
            "Broken streams and early refusals",
            "Streams that broke and ended in an error event (these were a 200 once), and calls turned away before "
            "anything was read of them.",
            "reqps",
            (
                Query(often("gateway_stream_truncated_total", MODEL, "model"), "broken: {{model}}"),
                Query(often("gateway_admission_rejected_total", "", "reason"), "turned away: {{reason}}"),
            ),
        ),
    ),
)
