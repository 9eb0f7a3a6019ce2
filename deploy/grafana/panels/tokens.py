"""What was read and written, and how far the ledger is with it."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import CALLS, MODEL, often, rate, share

TOKENS = Section(
    "Tokens",
    (
        Panel(
            "Tokens by type",
            "Tokens per second. cache_read is a part of input, reasoning a part of output.",
            "none",
            (Query(rate("gateway_tokens_total", CALLS, "type"), "{{type}}"),),
        ),
        Panel(
            "Tokens by model",
            "Input and output tokens per second.",
            "none",
            (
                Query(
                    rate("gateway_tokens_total", f'{CALLS}, type=~"input|output"', "model"),
                    "{{model}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Tokens by team",
            "Input and output tokens in the time shown. Billing reads the usage ledger, not this estimate.",
            "short",
            (
                Query(
                    "topk(10, sum by (team) (increase(gateway_tokens_total"
                    f'{{{CALLS}, type=~"input|output"}}[$__range])))',
                    "{{team}}",
                ),
            ),
            kind="bargauge",
        ),
        Panel(
            "Prompts read from a provider's cache",
            "Share of input tokens that a provider had cached: these are cheaper and faster.",
            "percentunit",
            (
                Query(
                    share(
                        rate("gateway_tokens_total", f'{CALLS}, type="cache_read"'),
                        rate("gateway_tokens_total", f'{CALLS}, type="input"'),
                    ),
                    "cached",
                ),
            ),
        ),
        Panel(
            "Why models stopped",
            "Finished answers per second by reason; a growing share of length means answers are cut.",
            "reqps",
            (Query(rate("gateway_finish_reason_total", MODEL, "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Usage ledger",
            "Events per second by where they went (a call is two in the spool, its begin and its end, and one in the "
            "ledger), and how old the oldest of the spool is that is not in the ledger yet. Events wait in memory "
            "while the disk is full; dropped ones are lost.",
            "none",
            (
                Query(rate("gateway_usage_events_total", "", "sink, result"), "{{sink}}: {{result}}"),
                Query("max(gateway_usage_oldest_event_age_seconds)", "age of the oldest, s"),
                Query("sum(gateway_usage_waiting_events)", "wait in memory, events"),
                Query(often("gateway_usage_estimated_total", MODEL), "estimated, not reported"),
            ),
        ),
    ),
)
