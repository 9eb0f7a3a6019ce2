"""The policy documents as pydantic models: what may stand where. `compile` checks what refers to what."""

import dataclasses
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model

from gateway.config.scalars import Count, Day, Dimension, Duration, Flag, Hash, Name, Plain, Share, Text
from gateway.config.snapshot import DEFAULT_RETRY
from gateway.providers.registry import PROVIDERS

PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

# Kinds, keys and words that have their place already but are not there yet: whoever writes
# one is told so. What is built is in the models below and never asked for here.
NOT_BUILT = frozenset(
    {
        *("budgets", "prices", "guardrails", "cache", "mcp", "monitors"),
        *("hedge", "min_speed", "continue", "cheapest", "sticky", "jwt"),
    }
)


class Strict(BaseModel):
    """No unknown keys, no guessing at types; a message of its own must never quote a value."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # of the kinds of papers that are not used nothing is built: 30 ms and 1 MB of a start
    )


class CapabilitiesSpec(Strict):
    """What a model can do, where it is not as the built-in table says, or not in it. Absent: as there."""

    tools: Flag | None = None
    parallel_tools: Flag | None = None
    images: Flag | None = None
    documents: Flag | None = None
    audio: Flag | None = None
    json_schema: Flag | None = None
    reasoning: Flag | None = Field(default=None, description="Whether it takes an effort.")
    prefill: Flag | None = Field(default=None, description="Whether it goes on with an answer that is begun.")
    context: Count | None = Field(default=None, description="Tokens of input it takes.")
    output: Count | None = Field(default=None, description="Tokens it can write.")


class ProviderFields(Strict):
    """What all provider types share."""

    type: str
    capabilities: CapabilitiesSpec = Field(
        default=CapabilitiesSpec(), description="Of all its models; a target's own come first."
    )
    default: Flag = Field(default=False, description="Serves endpoints that name no model (files, batches).")
    stream_usage: Literal["ask", "leave"] = Field(
        default="ask", description="ask: usage is asked of streams whose client did not; leave: untouched."
    )


def provider_model(kind: str) -> type[ProviderFields]:
    """The model of one type: the shared fields and those of its adapter's dataclass."""
    own: dict[str, Any] = {"type": (Literal[kind], ...)}
    for one in dataclasses.fields(PROVIDERS[kind].spec):
        if one.default_factory is not dataclasses.MISSING:
            own[one.name] = (_typed(one.type), Field(default_factory=one.default_factory))
        else:
            own[one.name] = (_typed(one.type), ... if one.default is dataclasses.MISSING else one.default)
    return create_model(f"Provider_{kind.replace('.', '_')}", __base__=ProviderFields, **own)


def _typed(kind: Any) -> Any:
    """Numbers and flags may be filled in, as text may; also into what holds anything."""
    is_text = kind is str or (str in get_args(kind) and Any not in get_args(kind))
    return kind if is_text else Annotated[kind, Plain]


PROVIDER_MODELS = {kind: provider_model(kind) for kind in PROVIDERS}


class TargetSpec(Strict):
    provider: Text = Field(description="A name under providers.")
    model: Name | None = Field(
        default=None, description="What the provider calls it; absent: the asked name."
    )
    weight: Annotated[int, Field(ge=1, le=1_000_000), Plain] | None = Field(
        default=None, description="Its share of the calls; for strategy weighted alone."
    )
    condition: Text | None = Field(default=None, alias="if", description="CEL; an error skips the target.")
    capabilities: CapabilitiesSpec = CapabilitiesSpec()


class RetrySpec(Strict):
    attempts: Annotated[int, Field(ge=1, le=10), Plain] = Field(
        default=2, description="Tries at one target, the first included."
    )
    on: list[Annotated[int, Field(ge=400, le=599), Plain] | Literal["connect", "timeout"]] = Field(
        default=[*sorted(DEFAULT_RETRY.statuses), "connect", "timeout"], description="What leads on."
    )
    budget: Share = Field(default=0.2, description="Same-target retries per calls over 10 s.")


class TimeoutsSpec(Strict):
    connect: Duration = 2.0
    first_token: Duration = Field(default=60.0, description="Until a stream's first event.")
    idle: Duration = 60.0
    total: Duration = 600.0


class ModelSpec(Strict):
    targets: Annotated[list[TargetSpec], Field(min_length=1)]
    strategy: Literal["priority", "weighted", "fastest", "least-busy", "prefix-aware"] = "priority"
    retry: RetrySpec = RetrySpec()
    timeouts: TimeoutsSpec = TimeoutsSpec()
    stream_failover: Literal["error"] = Field(
        default="error", description="A stream that breaks ends in an error event."
    )


# Families of paths that a team's policy opens; what they are stands in the edge's table of endpoints.
Route = Literal[
    "assistants", "containers", "evals", "fine_tuning", "skills", "threads", "vector_stores", "videos"
]  # fmt: skip


class TeamSpec(Strict):
    models: list[Name] = Field(description='Names and globs this team may ask for; ["*"] is all.')
    max_output_tokens: Count | None = Field(default=None, description="More is a 400; none gets it added.")
    passthrough: list[Route] = Field(default=[], description="Further OpenAI routes, by their first segment.")
    condition: Text | None = Field(default=None, alias="if", description="CEL; an error refuses.")


class KeySpec(Strict):
    name: Name
    team: Text
    hash: Hash = Field(description="SHA-256 of the key as sent; the key itself is never written down.")
    expires: Day | None = None


class WhenSpec(Strict):
    """Lists and globs; absent: any."""

    teams: list[Name] | None = None
    keys: list[Name] | None = None
    models: list[Name] | None = Field(default=None, description="Match the asked name.")
    metadata: dict[Name, Text | list[Text]] | None = None


class RuleSpec(Strict):
    id: Name
    limit: Count
    unit: Literal["requests", "tokens", "concurrent"]
    per: Literal["second", "minute", "hour", "day"] | None = Field(
        default=None, description="Needed, but for concurrent, which takes none."
    )
    when: WhenSpec = WhenSpec()
    condition: Text | None = Field(
        default=None, alias="if", description="CEL; an error makes the rule apply."
    )
    for_each: list[Dimension] = Field(default=[], description="One bucket for each; absent: one for all.")
    mode: Literal["enforce", "shadow"] = "enforce"
    on_store_error: Literal["local_share", "allow", "refuse"] = "local_share"
    assume_output: Count = Field(default=1024, description="Tokens reserved where no bound is known.")


# What a body may be written in: what the endpoints take, chat where a call does not say.
DialectName = Literal[
    "openai.chat", "openai.completions", "openai.embeddings", "openai.responses",
    "anthropic.messages", "anthropic.count_tokens",
    "gemini.generate", "gemini.count_tokens", "gemini.embed", "gemini.batch_embed",
    "cohere.rerank", "cohere.rerank_v1",
]  # fmt: skip


class GivenSpec(Strict):
    key: Text | None = None
    team: Text | None = None
    user: str = ""
    model: Name
    metadata: dict[str, str] = {}
    dialect: DialectName | None = Field(
        default=None, description="Of the body; absent: chat, or rerank where it has query and documents."
    )
    request: Annotated[dict[str, Any], Plain] = Field(
        default={}, description="Fields of the body; beside those of Gemini's, stream tells of the path."
    )
    down: list[Text] = Field(default=[], description="Providers or provider/model that do not answer.")
    used: dict[str, Annotated[int, Field(ge=0), Plain]] = Field(
        default={}, description="Units used up, by rule."
    )


class ExpectSpec(Strict):
    allowed: Flag | None = None
    refused: Text | None = Field(default=None, description="The code of the refusal.")
    rule: Text | None = Field(default=None, description="The rule that refuses.")
    target: Text | None = Field(default=None, description="The first target: provider or provider/model.")
    targets: list[Text] | None = Field(default=None, description="All targets in order.")
    limits: list[Text] | None = Field(
        default=None, description="The rules that count the call, in any order."
    )


class TestSpec(Strict):
    __test__ = False  # no case for pytest

    name: Name
    given: GivenSpec
    expect: ExpectSpec


class ProvidersPaper(Strict):
    kind: Literal["providers"]
    providers: dict[Name, Any]


class ModelsPaper(Strict):
    kind: Literal["models"]
    models: dict[Name, ModelSpec]


class AccessPaper(Strict):
    kind: Literal["access"]
    teams: dict[Name, TeamSpec] = {}
    keys: list[KeySpec] = []


class RateLimitsPaper(Strict):
    kind: Literal["rate-limits"]
    match: Literal["all", "first"] = "all"
    rules: list[RuleSpec]


class TestsPaper(Strict):
    __test__ = False

    kind: Literal["tests"]
    tests: list[TestSpec]


PAPERS: dict[str, type[Strict]] = {
    "providers": ProvidersPaper,
    "models": ModelsPaper,
    "access": AccessPaper,
    "rate-limits": RateLimitsPaper,
    "tests": TestsPaper,
}
