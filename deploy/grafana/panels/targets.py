"""The state of what calls are sent to, and of the policies and credentials by which they are."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import MODEL, quantile, rate

_SICK = 'result!~"ok|rejected|cancelled"'

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
