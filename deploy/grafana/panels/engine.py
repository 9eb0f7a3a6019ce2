"""The local engine's own numbers."""

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.promql import quantile, rate

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
