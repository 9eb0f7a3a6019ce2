"""Kinds `providers` and `models`: addresses and targets made ready, what is off taken out."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.config.compiler import Compiler
from gateway.config.papers import Paper
from gateway.config.problem import Path
from gateway.config.schema import (
    CapabilitiesSpec,
    ModelsPaper,
    ModelSpec,
    ProviderFields,
    ProvidersPaper,
    TargetSpec,
)
from gateway.config.snapshot import Engine, Model, Retry, Timeouts
from gateway.core.capabilities import Capabilities
from gateway.core.credential import Source
from gateway.core.exchange import Target
from gateway.core.failure import Failure
from gateway.policy.globs import is_glob
from gateway.policy.registry import STRATEGIES
from gateway.providers.models import known
from gateway.providers.registry import PROVIDERS

WHY_OFF = "off: its api_key is empty"
LONGEST_SOCKET = 100  # bytes of a unix socket's path; Linux takes 107, others less
NEVER_LEAD_ON = frozenset({400, 404, 409, 413, 422})
# Of a call alone, in whichever format: whom it asks, what, and how it is answered. As a default it would stand in the
# body unseen by all that decides on the call. (`documents` are not among them: Cohere's chat may have some that stay.)
_OF_CALLS = frozenset(
    {
        "background", "content", "contents", "conversation", "input", "messages", "model", "previous_response_id",
        "prompt", "query", "requests", "stream", "stream_options",
    }
)  # fmt: skip
_FAILURES = {"connect": Failure.UNREACHABLE, "timeout": Failure.TIMED_OUT}


class CompiledProvider(NamedTuple):
    """A provider, ready to be called; `facts` is None while it is off."""

    kind: str
    facts: Any
    default: bool
    ask_usage: bool
    engine: Engine | None = None
    secrets: tuple[str, ...] = ()
    source: Source | None = None
    capabilities: CapabilitiesSpec = CapabilitiesSpec()


def compile_providers(compiler: Compiler) -> dict[str, CompiledProvider]:
    """By name, those that are off too."""
    providers: dict[str, CompiledProvider] = {}
    for paper, spec in compiler.of(ProvidersPaper):
        for name, fields in spec.providers.items():
            path: Path = ("providers", name)
            if compiler.is_first(paper, "provider", name, path):
                providers[name] = _provider(compiler, paper, name, fields)
                if fields.default and [other for other, one in providers.items() if one.default] != [name]:
                    compiler.note(
                        paper, (*path, "default"), "another provider is the default; mark one alone"
                    )
    return providers


def default_provider(providers: Mapping[str, CompiledProvider]) -> str:
    """Of those that are on the one marked `default: true`, else the first of type openai; "" for none."""
    on = {name: provider for name, provider in providers.items() if provider.facts is not None}
    marked = [name for name, provider in on.items() if provider.default]
    return next(iter(marked or [name for name, provider in on.items() if provider.kind == "openai"]), "")


def passthrough_target(name: str, provider: CompiledProvider) -> Target:
    """The target of endpoints that name no model."""
    return Target(f"{name}/*", name, provider.kind, "openai.raw", "", provider.facts)


def _provider(compiler: Compiler, paper: Paper, name: str, fields: ProviderFields) -> CompiledProvider:
    adapter, path = PROVIDERS[fields.type], ("providers", name)
    own = {one.name: getattr(fields, one.name) for one in dataclasses.fields(adapter.spec)}
    engine = _engine(compiler, paper, name, own) if fields.type == "local" else None
    spec, facts = adapter.spec(**own), None
    _check_params(compiler, paper, (*path, "params"), fields.type, own["params"])
    has_key = adapter.enabled(spec)
    is_on = compiler.options.everything_on or has_key
    if not is_on:
        compiler.warnings.append(f'provider "{name}" is {WHY_OFF}')
    try:
        facts = adapter.facts(spec)
    except ValueError as error:
        field, _, message = str(error).partition(": ")
        # What is missing may come with the key; what is wrong is wrong without it.
        if has_key or own.get(field):
            compiler.note(paper, (*path, *field.split(".", 1)), message)
    if not is_on:
        facts = None
    source = adapter.source(facts) if facts is not None else None
    keys = own.get("api_key") or []
    # Beside the keys of one that is on; one that is off has nothing else.
    shown = [one.decode() for one in getattr(facts, "secrets", ())]
    secrets = tuple(dict.fromkeys([*([keys] if isinstance(keys, str) else keys), *shown]))
    asks = fields.stream_usage == "ask" and not adapter.quirks.gives_usage
    return CompiledProvider(
        fields.type, facts, fields.default, asks, engine, secrets, source, fields.capabilities
    )


def _check_params(compiler: Compiler, paper: Paper, path: Path, kind: str, params: Mapping[str, Any]) -> None:
    own = _OF_CALLS - {"model"} if kind == "sagemaker" else _OF_CALLS  # its containers know no other name
    for name in own & params.keys():
        message = "is each call's own and can be no default; remove it"
        compiler.problems.append(paper.problem((*path, name), message, key=True))


def _engine(compiler: Compiler, paper: Paper, name: str, own: dict[str, Any]) -> Engine | None:
    """An engine named by its model gets a socket in the data folder, written into `own` as its address."""
    path = ("providers", name)
    if own["model"] and own["address"]:
        compiler.note(paper, (*path, "address"), "model and address exclude each other; keep one")
    if not own["model"] or own["address"]:
        return None
    socket = str(compiler.options.data_dir.absolute() / f"engine-{name}.sock")
    if len(socket.encode()) > LONGEST_SOCKET:
        message = f"its socket would be {socket}, too long a path; set GATEWAY_DATA_DIR to a shorter one"
        compiler.note(paper, path, message)
    own["address"] = f"unix:{socket}"
    return Engine(name, own["model"], socket, PROVIDERS["local"].spec(**own).flags)


def compile_models(compiler: Compiler, providers: Mapping[str, CompiledProvider]) -> dict[str, Model]:
    """By exact name or glob."""
    made: dict[str, Model] = {}
    for paper, spec in compiler.of(ModelsPaper):
        for name, model in spec.models.items():
            if compiler.is_first(paper, "model", name, ("models", name)):
                made[name] = _model(compiler, paper, name, model, providers)
    return made


def _model(
    compiler: Compiler,
    paper: Paper,
    name: str,
    spec: ModelSpec,
    providers: Mapping[str, CompiledProvider],
) -> Model:
    before = len(compiler.problems)
    targets: list[Target] = []
    off: list[Target] = []
    for place, target in enumerate(spec.targets):
        path: Path = ("models", name, "targets", place)
        if target.weight is not None and spec.strategy != "weighted":
            message = "belongs to strategy: weighted alone; remove it, or set the strategy"
            compiler.note(paper, (*path, "weight"), message)
        made = _target(compiler, paper, path, target, providers)
        if made is not None:
            (off if made.facts is None else targets).append(made)
    if not targets and len(compiler.problems) == before:
        compiler.warnings.append(f'model "{name}" is not served: the providers of all its targets are off')
    for place, one in enumerate(spec.retry.on):
        if one in NEVER_LEAD_ON:
            message = f"{one} is the call's own fault and never leads on; remove it"
            compiler.note(paper, ("models", name, "retry", "on", place), message)
    statuses = frozenset(one for one in spec.retry.on if isinstance(one, int))
    failures = frozenset(_FAILURES[one] for one in spec.retry.on if isinstance(one, str))
    times = spec.timeouts
    return Model(
        name,
        tuple(targets),
        STRATEGIES[spec.strategy],
        Retry(spec.retry.attempts, statuses, failures, spec.retry.budget),
        Timeouts(times.connect, times.first_token, times.idle, times.total),
        tuple(off),
    )


def _target(
    compiler: Compiler,
    paper: Paper,
    path: Path,
    spec: TargetSpec,
    providers: Mapping[str, CompiledProvider],
) -> Target | None:
    """Without `facts` where its provider is off; None where there is none of that name (noted)."""
    model = str(path[1])
    condition = compiler.condition(paper, spec.condition, (*path, "if"))
    if not compiler.check_name(paper, (*path, "provider"), "provider", spec.provider, providers):
        return None
    provider = providers[spec.provider]
    asked = spec.model or ("" if is_glob(model) else model)
    if asked and (why := PROVIDERS[provider.kind].misnamed(asked)):
        compiler.note(paper, (*path, "model") if spec.model else path, f'"{asked}" is {why}')
    if spec.model and is_glob(spec.model):
        message = "is one model's name and takes no glob; leave it out to pass the asked name through"
        compiler.note(paper, (*path, "model"), message)
    return Target(
        f"{spec.provider}/{asked or '*'}",
        spec.provider,
        provider.kind,
        "openai.chat",
        spec.model or "",
        provider.facts,
        spec.weight or 1,
        condition.or_false(compiler.counter(f"models.{model}")) if condition else None,
        provider.ask_usage,
        capabilities(asked, provider.capabilities, spec.capabilities),
    )


def capabilities(model: str, *said: CapabilitiesSpec) -> Capabilities | None:
    """As the built-in table has it, then as the policies say, the last of them last. None: nothing is known."""
    facts: dict[str, Any] = {}
    for one in said:
        facts |= one.model_dump(exclude_none=True)
    table = known(model)
    if not facts:
        return table
    return (table or Capabilities())._replace(**facts)
