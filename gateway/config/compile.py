"""Documents to Snapshot: names looked up, conditions compiled, what is off taken out."""

import dataclasses
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from gateway.config.load import Document, Papers
from gateway.config.papers import Paper
from gateway.config.problem import BadPolicies, Path, Problem, did_you_mean
from gateway.config.schema import (
    PERIODS,
    AccessPaper,
    KeySpec,
    ModelSpec,
    ModelsPaper,
    ProviderFields,
    ProvidersPaper,
    RateLimitsPaper,
    RuleSpec,
    TargetSpec,
    TeamSpec,
    TestsPaper,
)
from gateway.config.snapshot import Engine, KeyFacts, Model, Retry, Snapshot, Tables, Team, Timeouts
from gateway.core.claim import Limit
from gateway.core.exchange import Exchange, Target
from gateway.core.failure import Failure
from gateway.policy.expression import BadExpression, Condition
from gateway.policy.globs import is_glob, matcher
from gateway.policy.rate_limit import RateLimits, Rule, When, part
from gateway.policy.registry import STRATEGIES
from gateway.providers.registry import PROVIDERS

OnConditionError = Callable[[str], None]  # gets the name of the rule


class Ground(NamedTuple):
    """What compiling needs beside the papers. `everything_on` is for in-file tests."""

    data_dir: FilePath
    on_condition_error: OnConditionError = lambda rule: None
    everything_on: bool = False


class Party(NamedTuple):
    """A provider, ready to be called; `facts` is None while it is off."""

    kind: str
    facts: Any
    fields: ProviderFields


def compile_papers(papers: Papers, ground: Ground) -> Snapshot:
    """Raises BadPolicies with every fault found."""
    return _Compiler(papers, ground).snapshot()


class _Compiler:
    """One run. Faults are collected, so that all of them are told at once."""

    def __init__(self, papers: Papers, ground: Ground) -> None:
        self._papers, self._ground = papers, ground
        self._problems: list[Problem] = []
        self._warnings: list[str] = []
        self._engines: list[Engine] = []
        self._secrets: list[str] = []
        self._seen: dict[tuple[str, str], Paper] = {}

    def snapshot(self) -> Snapshot:
        parties = self._parties()
        models = self._models(parties)
        teams, keys = self._access()
        limits = self._limits(teams, {facts.name for facts in keys.values()})
        self._tests()
        if self._problems:
            raise BadPolicies(self._problems)
        exact = {name: model for name, model in models.items() if not is_glob(name)}
        globs = sorted((name for name in models if is_glob(name)), key=lambda name: (-len(name), name))
        tables = Tables(
            keys,
            teams,
            exact,
            [(matcher([name]), models[name]) for name in globs],
            limits,
            {name: _passing(name, party) for name, party in parties.items() if party.facts is not None},
            _default(parties),
            self._engines,
            self._warnings,
            self._secrets,
        )
        return Snapshot(self._papers.version, tables)

    # providers and models

    def _parties(self) -> dict[str, Party]:
        parties: dict[str, Party] = {}
        for document, spec in self._of(ProvidersPaper):
            for name, fields in spec.providers.items():
                path: Path = ("providers", name)
                if self._is_first(document, "provider", name, path):
                    parties[name] = self._party(document.paper, name, fields, path)
        return parties

    def _party(self, paper: Paper, name: str, fields: ProviderFields, path: Path) -> Party:
        adapter = PROVIDERS[fields.type]
        own = {one.name: getattr(fields, one.name) for one in dataclasses.fields(adapter.spec)}
        if fields.type == "local":
            self._start_engine(paper, name, own, path)
        if not self._ground.everything_on and not adapter.enabled(adapter.spec(**own)):
            self._warnings.append(f'provider "{name}" is off: its api_key is empty')
            return Party(fields.type, None, fields)
        if isinstance(own.get("api_key"), str | list):
            keys = own["api_key"] if isinstance(own["api_key"], list) else [own["api_key"]]
            self._secrets += [key for key in keys if len(key) >= 8]
        try:
            return Party(fields.type, adapter.facts(adapter.spec(**own)), fields)
        except ValueError as error:
            field, _, message = str(error).partition(": ")
            self._note(paper, (*path, field), message)
            return Party(fields.type, None, fields)

    def _start_engine(self, paper: Paper, name: str, own: dict[str, Any], path: Path) -> None:
        """An engine named by its model gets a socket in the data folder."""
        if own["model"] and own["address"]:
            self._note(paper, (*path, "address"), "model and address exclude each other; keep one")
        elif own["model"]:
            socket = str(self._ground.data_dir.absolute() / f"engine-{name}.sock")
            own["address"] = f"unix:{socket}"
            self._engines.append(Engine(name, own["model"], socket))

    def _models(self, parties: dict[str, Party]) -> dict[str, Model]:
        models: dict[str, Model] = {}
        for document, spec in self._of(ModelsPaper):
            for name, model in spec.models.items():
                path: Path = ("models", name)
                if self._is_first(document, "model", name, path):
                    models[name] = self._model(document.paper, name, model, parties)
        return models

    def _model(self, paper: Paper, name: str, spec: ModelSpec, parties: dict[str, Party]) -> Model:
        targets = []
        for place, target in enumerate(spec.targets):
            path: Path = ("models", name, "targets", place)
            made = self._target(paper, name, target, parties, path)
            if made is not None:
                targets.append(made)
        if not targets and not self._problems:
            self._warnings.append(f'model "{name}" has no target: all its providers are off')
        statuses = frozenset(one for one in spec.retry.on if isinstance(one, int))
        words = {"connect": Failure.UNREACHABLE, "timeout": Failure.TIMED_OUT}
        failures = frozenset(words[one] for one in spec.retry.on if isinstance(one, str))
        return Model(
            name,
            tuple(targets),
            STRATEGIES[spec.strategy],
            Retry(spec.retry.attempts, statuses, failures, spec.retry.budget),
            Timeouts(
                spec.timeouts.connect, spec.timeouts.first_token, spec.timeouts.idle, spec.timeouts.total
            ),
        )

    def _target(
        self, paper: Paper, model: str, spec: TargetSpec, parties: dict[str, Party], path: Path
    ) -> Target | None:
        party = parties.get(spec.provider)
        if party is None:
            hint = did_you_mean(spec.provider, parties)
            self._note(paper, (*path, "provider"), f'no provider named "{spec.provider}"; {hint}')
            return None
        condition = self._condition(paper, spec.condition, (*path, "if"))
        if party.facts is None:
            return None
        asked = spec.model or ("" if is_glob(model) else model)
        return Target(
            f"{spec.provider}/{asked or '*'}",
            spec.provider,
            party.kind,
            "openai.chat",
            asked if party.kind != "local" or spec.model else "",
            party.facts,
            spec.weight or 1,
            condition.or_false(self._counter(f"models.{model}")) if condition else None,
            party.fields.stream_usage == "ask",
        )

    # access and limits

    def _access(self) -> tuple[dict[str, Team], dict[str, KeyFacts]]:
        teams: dict[str, Team] = {}
        keys: dict[str, KeyFacts] = {}
        for document, spec in self._of(AccessPaper):
            for name, team in spec.teams.items():
                if self._is_first(document, "team", name, ("teams", name)):
                    teams[name] = self._team(document.paper, name, team)
        for document, spec in self._of(AccessPaper):
            for place, key in enumerate(spec.keys):
                self._key(document, key, ("keys", place), teams, keys)
        return teams, keys

    def _team(self, paper: Paper, name: str, spec: TeamSpec) -> Team:
        condition = self._condition(paper, spec.condition, ("teams", name, "if"))
        predicate = condition.or_false(self._counter(f"teams.{name}")) if condition else None
        passthrough = frozenset(spec.passthrough)
        return Team(name, matcher(spec.models), spec.max_output_tokens, passthrough, predicate)

    def _key(
        self, document: Document, spec: KeySpec, path: Path, teams: dict[str, Team], keys: dict[str, KeyFacts]
    ) -> None:
        if not self._is_first(document, "key", spec.name, (*path, "name")):
            return
        if spec.team not in teams:
            hint = did_you_mean(spec.team, teams)
            self._note(document.paper, (*path, "team"), f'no team named "{spec.team}"; {hint}')
        if spec.hash in keys:
            other = keys[spec.hash].name
            self._note(
                document.paper, (*path, "hash"), f'is the hash of key "{other}" too; make a key of its own'
            )
        keys[spec.hash] = KeyFacts(spec.name, spec.team, spec.hash, spec.expires)

    def _limits(self, teams: dict[str, Team], keys: set[str]) -> list[RateLimits]:
        gates = []
        for document, spec in self._of(RateLimitsPaper):
            rules = []
            for place, rule in enumerate(spec.rules):
                path: Path = ("rules", place)
                if self._is_first(document, "rule", rule.id, (*path, "id")):
                    self._check_names(document.paper, rule, path, teams)
                    rules.append(self._rule(document.paper, rule, path))
            gates.append(RateLimits(tuple(rules), spec.match == "first"))
        return gates

    def _check_names(self, paper: Paper, rule: RuleSpec, path: Path, teams: dict[str, Team]) -> None:
        for place, name in enumerate(rule.when.teams or []):
            if not is_glob(name) and name not in teams:
                where = (*path, "when", "teams", place)
                self._note(paper, where, f'no team named "{name}"; {did_you_mean(name, teams)}')

    def _rule(self, paper: Paper, spec: RuleSpec, path: Path) -> Rule:
        when = spec.when
        metadata = tuple(
            (name, matcher([values] if isinstance(values, str) else values))
            for name, values in (when.metadata or {}).items()
        )
        return Rule(
            Limit(
                spec.id,
                spec.unit,
                spec.limit,
                PERIODS[spec.per] if spec.per else 0,
                spec.mode,
                spec.on_store_error,
            ),
            When(
                *(
                    matcher(names) if names is not None else None
                    for names in (when.teams, when.keys, when.models)
                ),
                metadata,
            ),
            self._condition(paper, spec.condition, (*path, "if")),
            self._counter(spec.id),
            tuple(spec.for_each),
            tuple(part(name) for name in spec.for_each),
            spec.assume_output,
        )

    def _tests(self) -> None:
        for document, spec in self._of(TestsPaper):
            for place, test in enumerate(spec.tests):
                self._is_first(document, "test", test.name, ("tests", place, "name"))

    # shared

    def _of(self, kind: type[Any]) -> list[tuple[Document, Any]]:
        return [
            (document, document.spec)
            for document in self._papers.documents
            if isinstance(document.spec, kind)
        ]

    def _is_first(self, document: Document, noun: str, name: str, path: Path) -> bool:
        first = self._seen.get((noun, name))
        if first is None:
            self._seen[noun, name] = document.paper
            return True
        message = f'{noun} "{name}" is there already, in {first.file}; keep one of them or rename this one'
        self._problems.append(document.paper.problem(path, message, key=True))
        return False

    def _condition(self, paper: Paper, text: str | None, path: Path) -> Condition | None:
        if text is None:
            return None
        try:
            return Condition(text)
        except BadExpression as error:
            self._note(paper, path, f"is no condition: {error}")
            return None

    def _counter(self, rule: str) -> Callable[[], None]:
        return lambda: self._ground.on_condition_error(rule)

    def _note(self, paper: Paper, path: Path, message: str) -> None:
        self._problems.append(paper.problem(path, message))


def _passing(name: str, party: Party) -> Target:
    """The target of endpoints that name no model."""
    return Target(f"{name}/*", name, party.kind, "openai.raw", "", party.facts)


def _default(parties: dict[str, Party]) -> str:
    """The provider marked `default: true`, else the first of type openai."""
    marked = [name for name, party in parties.items() if party.fields.default]
    return next(iter(marked + [name for name, party in parties.items() if party.kind == "openai"]), "")


def exchange_matches(target: Target, exchange: Exchange) -> bool:
    """Whether a target's own condition lets this call through."""
    return target.condition is None or target.condition(exchange)
