"""What the dashboard shows. tests/deploy holds every query against a real gateway and a real Prometheus.

Idle is not failure: a ratio divides by `> 0`, so that it shows nothing where there is no traffic, and counts of
what may never happen end in `or on() vector(0)`: a zero until there is something with a name.
"""

from dataclasses import dataclass
from typing import Literal

CALLS = 'model=~"$model", team=~"$team"'
MODEL = 'model=~"$model"'
FAULTS = "upstream_error|timeout|overloaded|gateway_error"  # outcomes that are not the caller's doing
REFUSED = "auth_denied|policy_denied|rate_limited|client_error"
SPAN = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    """`legend` names labels in double braces, as Grafana takes them."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """Width and height in cells of Grafana's grid, 24 to a row. From `limits` on a value is orange, then red;
    the other way round where the first is larger. `words` name values: (2, "open", "red")."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "bargauge", "heatmap", "state-timeline", "table"] = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    limits: tuple[float, float] | None = None
    words: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    title: str
    panels: tuple[Panel, ...]


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


_ALL = rate("gateway_requests_total", CALLS)
_FAILED = rate("gateway_requests_total", f'{CALLS}, outcome=~"{FAULTS}"')
_LIMITED = f'{CALLS}, outcome="rate_limited"'
_SICK = 'result!~"ok|rejected|cancelled"'

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

TARGETS = Section(
    "Targets",
    (
        Panel(
            "Circuits",
            "State of each target's breaker; of PROVIDER/* its worst model's, with several workers the worst one's.",
            "none",
            (Query("max by (deployment) (gateway_circuit_state)", "{{deployment}}"),),
            kind="state-timeline",
            words=((0, "closed", "green"), (1, "half-open", "orange"), (2, "open", "red")),
        ),
        Panel(
            "Attempts by target",
            "Requests sent to each target per second.",
            "reqps",
            (Query(rate("gateway_upstream_attempts_total", "", "deployment"), "{{deployment}}"),),
            stacked=True,
        ),
        Panel(
            "Failing attempts by target",
            "Share of attempts that failed; bad requests and clients that left do not count.",
            "percentunit",
            (
                Query(
                    f"{rate('gateway_upstream_attempts_total', _SICK, 'deployment')} / "
                    f"({rate('gateway_upstream_attempts_total', '', 'deployment')} > 0)",
                    "{{deployment}}",
                ),
            ),
        ),
        Panel(
            "First token by provider, p95",
            "From the request's first byte to a stream's first event.",
            "s",
            (
                Query(
                    quantile(0.95, "gateway_time_to_first_token_seconds", MODEL, "provider"), "{{provider}}"
                ),
            ),
        ),
        Panel(
            "Policies in force",
            "The version of the policy set (x-gateway-policies); two rows mean that workers differ.",
            "none",
            (Query("max by (instance, version) (gateway_policy_info)"),),
            kind="table",
        ),
        Panel(
            "Policy reloads",
            "Loads of policy files in the time shown, each process's own; a refused one changed nothing, the log says "
            "why.",
            "none",
            (Query("sum by (result) (increase(gateway_policy_reload_total[$__range]))", "{{result}}"),),
            kind="bargauge",
            width=4,
        ),
        Panel(
            "Policies loaded",
            "How long ago the policy set in force was loaded, by the process that did so last.",
            "s",
            (Query("time() - max(gateway_policy_last_success_timestamp_seconds)"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Renewals of credentials",
            "Tokens of providers that were renewed, per second, and how often that failed: the old one serves until it "
            "expires.",
            "reqps",
            (Query(rate("gateway_credential_renewals_total", by="result"), "{{result}}"),),
        ),
    ),
)

ENGINE = Section(
    "Local engine",
    (
        Panel(
            "Requests",
            "Requests being decoded together, and those that wait for room.",
            "none",
            (
                Query("sum(backend_running)", "running"),
                Query("sum(backend_waiting)", "waiting"),
            ),
        ),
        Panel(
            "Tokens",
            "Tokens per second: prompts read and answers written.",
            "none",
            (
                Query(rate("backend_prompt_tokens_total"), "prompt"),
                Query(rate("backend_generation_tokens_total"), "generated"),
            ),
        ),
        Panel(
            "First token and room",
            "p95 from arrival at the engine to the first token, and the share of its KV cache that is in use.",
            "none",
            (
                Query(quantile(0.95, "backend_time_to_first_token_seconds"), "first token, s"),
                Query("max(backend_kv_cache_usage_ratio)", "KV cache in use"),
            ),
        ),
        Panel(
            "Steps",
            "Seconds per second that steps spend on planning, computing (launch), drawing and reading back (settle).",
            "none",
            (Query(rate("backend_step_phase_seconds_total", by="phase"), "{{phase}}"),),
        ),
    ),
)

SECTIONS = (GLANCE, TRAFFIC, ERRORS, LATENCY, TOKENS, LIMITS, TARGETS, ENGINE)
