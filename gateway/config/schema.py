"""The policy documents as pydantic models: what may stand where. `compile` checks what refers to what."""

import dataclasses
import functools
import operator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model, field_validator, model_validator

from gateway.config.words import Count, Day, Duration, Share, not_built
from gateway.providers.registry import PROVIDERS

KINDS_TO_COME = ("budgets", "guardrails", "cache", "mcp", "monitors")
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, hide_input_in_errors=True, populate_by_name=True)


Text = Annotated[str, Field(min_length=1, max_length=512)]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Labels = dict[Name, Text | list[Text]]


class ProviderFields(Strict):
    """What all provider types share."""

    type: str
    default: bool = False
    stream_usage: Literal["ask", "leave"] = "ask"


def provider_model(kind: str) -> type[ProviderFields]:
    """The model of one type: the shared fields and those of its adapter's dataclass."""
    spec = PROVIDERS[kind].spec
    own: dict[str, Any] = {"type": (Literal[kind], ...)}
    for one in dataclasses.fields(spec):
        factory = one.default_factory
        default = Field(default_factory=factory) if factory is not dataclasses.MISSING else one.default
        own[one.name] = (one.type, ... if default is dataclasses.MISSING else default)
    return create_model(f"Provider_{kind}", __base__=ProviderFields, **own)


PROVIDER_MODELS = {kind: provider_model(kind) for kind in PROVIDERS}


class TargetSpec(Strict):
    provider: Text
    model: Text | None = None
    weight: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    condition: Text | None = Field(default=None, alias="if")


class RetrySpec(Strict):
    attempts: Annotated[int, Field(ge=1, le=10, strict=True)] = 2
    on: list[Annotated[int, Field(ge=400, le=599, strict=True)] | Literal["connect", "timeout"]] = [
        429, 500, 502, 503, 504, "connect", "timeout",
    ]  # fmt: skip
    budget: Share = 0.2


class TimeoutsSpec(Strict):
    connect: Duration = 2.0
    first_token: Duration = 60.0
    idle: Duration = 60.0
    total: Duration = 600.0


def _continue_is_to_come(value: object) -> object:
    if value == "continue":
        raise ValueError('"continue" is not built yet; write "error"')
    return value


class ModelSpec(Strict):
    targets: Annotated[list[TargetSpec], Field(min_length=1)]
    strategy: str = "priority"
    retry: RetrySpec = RetrySpec()
    timeouts: TimeoutsSpec = TimeoutsSpec()
    min_speed: Annotated[Any, not_built("min_speed")] = None
    hedge: Annotated[Any, not_built("hedge")] = None
    stream_failover: Literal["continue", "error"] = "error"

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        built = ("priority", "weighted", "fastest", "least-busy")
        if value in ("cheapest", "sticky", "prefix-aware"):
            raise ValueError(f'the strategy "{value}" is not built yet; take one of {", ".join(built)}')
        if value not in built:
            raise ValueError(f'there is no strategy "{value}"; take one of {", ".join(built)}')
        return value

    @field_validator("stream_failover")
    @classmethod
    def _built(cls, value: str) -> object:
        return _continue_is_to_come(value)

    @model_validator(mode="after")
    def _weights(self) -> "ModelSpec":
        if self.strategy != "weighted" and any(target.weight is not None for target in self.targets):
            raise ValueError('weight belongs to "strategy: weighted" alone; remove it or set the strategy')
        return self


class TeamSpec(Strict):
    models: list[Text]
    max_output_tokens: Count | None = None
    passthrough: list[Text] = []
    condition: Text | None = Field(default=None, alias="if")


class KeySpec(Strict):
    name: Name
    team: Text
    hash: str
    expires: Day | None = None

    @field_validator("hash")
    @classmethod
    def _sha256(cls, value: str) -> str:
        digits = value.removeprefix("sha256:")
        if not value.startswith("sha256:") or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise ValueError('must be "sha256:" and 64 lower-case hex digits: the SHA-256 of the key')
        return digits


class WhenSpec(Strict):
    teams: list[Text] | None = None
    keys: list[Text] | None = None
    models: list[Text] | None = None
    metadata: Labels | None = None


class RuleSpec(Strict):
    id: Name
    limit: Annotated[int, Field(ge=1, le=10**15, strict=True)]
    unit: Literal["requests", "tokens", "concurrent"]
    per: Literal["second", "minute", "hour", "day"] | None = None
    when: WhenSpec = WhenSpec()
    condition: Text | None = Field(default=None, alias="if")
    for_each: list[Text] = []
    mode: Literal["enforce", "shadow"] = "enforce"
    on_store_error: Literal["local_share", "allow", "refuse"] = "local_share"
    assume_output: Count = 1024

    @field_validator("for_each")
    @classmethod
    def _parts(cls, value: list[str]) -> list[str]:
        for one in value:
            if one not in ("key", "team", "user", "model") and not (one.startswith("metadata.") and one[9:]):
                raise ValueError(f'"{one}" is none of key, team, user, model, metadata.NAME')
        return value

    @model_validator(mode="after")
    def _period(self) -> "RuleSpec":
        if self.unit == "concurrent" and self.per is not None:
            raise ValueError("a rule of unit concurrent takes no per; remove it")
        if self.unit != "concurrent" and self.per is None:
            raise ValueError("per is missing; add second, minute, hour or day")
        return self


class GivenSpec(Strict):
    key: Text | None = None
    team: Text | None = None
    user: str = ""
    model: Text
    metadata: dict[str, str] = {}
    request: dict[str, Any] = {}
    down: list[Text] = []
    used: dict[str, int] = {}


class ExpectSpec(Strict):
    allowed: bool | None = None
    refused: Text | None = None
    rule: Text | None = None
    target: Text | None = None
    targets: list[Text] | None = None
    limits: list[Text] | None = None


class TestSpec(Strict):
    name: Name
    given: GivenSpec
    expect: ExpectSpec

    @model_validator(mode="after")
    def _asks_something(self) -> "TestSpec":
        if not self.expect.model_fields_set:
            raise ValueError("expect asks for nothing; add allowed, refused, rule, target, targets or limits")
        if (self.given.key is None) == (self.given.team is None):
            raise ValueError("given must name a key or a team, one of the two")
        return self


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
    jwt: Annotated[Any, not_built("jwt")] = None


class RateLimitsPaper(Strict):
    kind: Literal["rate-limits"]
    match: Literal["all", "first"] = "all"
    rules: list[RuleSpec]


class TestsPaper(Strict):
    kind: Literal["tests"]
    tests: list[TestSpec]


PAPERS: dict[str, type[Strict]] = {
    "providers": ProvidersPaper,
    "models": ModelsPaper,
    "access": AccessPaper,
    "rate-limits": RateLimitsPaper,
    "tests": TestsPaper,
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one policy document, for editors."""

    provider = Annotated[_any_provider(), Field(discriminator="type")]
    providers: Any = create_model("Providers", __base__=ProvidersPaper, providers=(dict[Name, provider], ...))
    documents: Any = Annotated[
        providers | ModelsPaper | AccessPaper | RateLimitsPaper | TestsPaper, Field(discriminator="kind")
    ]
    schema = TypeAdapter(documents).json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Gatehouse policy document",
        **schema,
    }


def _any_provider() -> Any:
    return functools.reduce(operator.or_, PROVIDER_MODELS.values())
