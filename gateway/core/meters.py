"""The metrics of one process, by name: every room may raise them, `telemetry` alone renders them.

Labels come from closed sets only: configured names, `_other` for everything else. Keys, users and request
ids belong in usage rows, logs and traces.
"""

from gateway.core.tally import Counter, Gauge, Histogram, Metric

DURATION = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1, 2.5, 5, 7.5, 10, 15, 20, 30, 60,
)  # fmt: skip
BETWEEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)


class Meters:
    """One instance per process, made by the builder and handed to whoever counts. They are rendered in this order."""

    def __init__(self) -> None:
        self.requests = Counter(
            "gateway_requests_total",
            "Calls by how they ended: ok, client_error, auth_denied, rate_limited, policy_denied, "
            "upstream_error, timeout, client_cancelled, overloaded, gateway_error.",
            ("route", "model", "team", "outcome"),
        )
        self.request_duration = Histogram(
            "gateway_request_duration_seconds",
            "From the request's first byte to the answer's last.",
            DURATION,
            ("route", "model", "stream"),
        )
        self.overhead = Histogram(
            "gateway_overhead_seconds",
            "Time of a call that was spent waiting neither for a provider nor for its client.",
            OVERHEAD,
            ("phase",),
        )
        self.first_token = Histogram(
            "gateway_time_to_first_token_seconds",
            "From the request's first byte to a stream's first event.",
            FIRST_TOKEN,
            ("model", "provider"),
        )
        self.between = Histogram(
            "gateway_inter_token_seconds",
            "Mean time between the events of one stream.",
            BETWEEN,
            ("model", "provider"),
        )

        self.attempts = Counter(
            "gateway_upstream_attempts_total",
            "Requests sent to providers, by result.",
            ("provider", "deployment", "result"),
        )
        self.fallbacks = Counter(
            "gateway_fallbacks_total",
            "Calls that went on to another target: from which, to which, why.",
            ("from", "to", "reason"),
        )
        self.retries = Counter("gateway_retries_total", "Second tries at the same target.", ("reason",))
        self.circuit = Gauge(
            "gateway_circuit_state", "0 closed, 1 half-open, 2 open.", ("deployment",), largest=True
        )

        self.tokens = Counter(
            "gateway_tokens_total",
            "Tokens by type: input, output, cache_read, reasoning.",
            ("team", "model", "provider", "type"),
        )
        self.estimated = Counter(
            "gateway_usage_estimated_total", "Calls whose usage no provider reported.", ("model",)
        )

        self.decisions = Counter(
            "gateway_ratelimit_decisions_total",
            "Decisions of each rate limit: allowed, refused, shadow_refused.",
            ("limit", "decision"),
        )
        self.store_errors = Counter(
            "gateway_store_errors_total",
            "Reservations made while the shared store was away, by what the rule says then.",
            ("mode",),
            known=(("local_share",), ("allow",), ("refuse",), ("settlement_dropped",)),
        )
        self.condition_errors = Counter(
            "gateway_policy_eval_errors_total", "Conditions (CEL) that failed to evaluate.", ("rule",)
        )

        self.credentials = Counter(
            "gateway_credential_renewals_total",
            "Renewals of credentials that expire: ok or failed.",
            ("result",),
            known=(("ok",), ("failed",)),
        )
        self.policy_info = Gauge(
            "gateway_policy_info", "The policy set in force.", ("version",), largest=True
        )
        self.policy_reloads = Counter(
            "gateway_policy_reload_total",
            "Policy loads: ok or refused.",
            ("result",),
            known=(("ok",), ("refused",)),
        )
        self.policy_refused = Gauge(
            "gateway_policy_refused",
            "1 while the policy files cannot be used, and others than they hold are in force.",
            largest=True,
        )
        self.policy_loaded = Gauge(
            "gateway_policy_last_success_timestamp_seconds",
            "When the policy set in force was loaded.",
            largest=True,
        )

        self.in_flight = Gauge("gateway_inflight_requests", "Calls being served now.")
        self.admission = Counter(
            "gateway_admission_rejected_total",
            "Calls turned away because the gateway is full, by reason.",
            ("reason",),
            known=(("in_flight",), ("bodies",)),
        )
        self.loop_lag = Histogram(
            "gateway_event_loop_lag_seconds", "How late a timer of the event loop fires.", OVERHEAD
        )

        self.usage_events = Counter(
            "gateway_usage_events_total",
            "Usage events by sink and result: written, retried, dropped.",
            ("sink", "result"),
            known=(("spool", "written"), ("spool", "dropped"), ("ledger", "written"), ("ledger", "dropped")),
        )
        self.usage_waiting = Gauge(
            "gateway_usage_waiting_events",
            "Usage events that wait in memory, as the disk has no room for them.",
        )
        self.usage_backlog = Gauge(
            "gateway_usage_backlog_events",
            "Calls in the spool that are not in the ledger yet.",
        )
        self.usage_oldest = Gauge(
            "gateway_usage_oldest_event_age_seconds",
            "No event of the spool that is not yet in the ledger is older than this.",
        )

        self.finish_reasons = Counter(
            "gateway_finish_reason_total", "Why models stopped.", ("model", "reason")
        )
        self.truncated = Counter(
            "gateway_stream_truncated_total", "Streams that broke and ended in an error event.", ("model",)
        )

        self.label_overflow = Counter(
            "gateway_metric_label_overflow_total", "Label values past the cap, counted as _other.", ("label",)
        )

    def all(self) -> list[Metric]:
        return [metric for metric in vars(self).values() if isinstance(metric, (Counter, Gauge, Histogram))]
