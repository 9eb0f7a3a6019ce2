"""Documents to Snapshot: names looked up, conditions compiled, every fault told at once."""

from collections.abc import Mapping

from gateway.config.compiler import CompileOptions, Compiler
from gateway.config.load import Papers
from gateway.config.papers import Paper
from gateway.config.problem import BadPolicies, Path
from gateway.config.schema import (
    PERIODS,
    AccessPaper,
    GivenSpec,
    ModelsPaper,
    RateLimitsPaper,
    RuleSpec,
    TestsPaper,
)
from gateway.config.snapshot import Model, Snapshot, Tables, Team
from gateway.config.targets import (
    CompiledProvider,
    compile_models,
    compile_providers,
    default_provider,
    passthrough_target,
)
from gateway.core.claim import Limit
from gateway.core.key import KeyFacts
from gateway.policy.globs import Matcher, is_glob, matcher, model_matcher
from gateway.policy.rate_limit import RateLimits, Rule, When, part


def compile_papers(papers: Papers, options: CompileOptions) -> Snapshot:
    """Raises BadPolicies."""
    compiler = Compiler(papers, options)
    providers = compile_providers(compiler)
    served = compile_models(compiler, providers)
    teams = _teams(compiler, served)
    keys = _keys(compiler, teams)
    limits = _limits(compiler, teams, served)
    _check_tests(compiler, providers, teams, keys, limits)
    if compiler.problems:
        raise BadPolicies(compiler.problems)
    globs = sorted(filter(is_glob, served), key=_rank)
    tables = Tables(
        keys,
        teams,
        {name: model for name, model in served.items() if not is_glob(name)},
        [(matcher([name]), served[name]) for name in globs],
        limits,
        {
            name: passthrough_target(name, provider)
            for name, provider in providers.items()
            if provider.facts is not None
        },
        default_provider(providers),
        [provider.engine for provider in providers.values() if provider.engine is not None],
        compiler.warnings,
        [secret for provider in providers.values() for secret in provider.secrets if len(secret) >= 8],
        [provider.source for provider in providers.values() if provider.source is not None],
    )
    return Snapshot(papers.version, tables)


def _rank(glob: str) -> tuple[int, int, int, str]:
    """The longest first; of equal length what says more, and so the one letter of `?` before the many of `*`."""
    many = glob.count("*")
    return -len(glob), many + glob.count("?"), many, glob


def _teams(compiler: Compiler, served: Mapping[str, Model]) -> dict[str, Team]:
    teams: dict[str, Team] = {}
    for paper, document in compiler.of(AccessPaper):
        for name, spec in document.teams.items():
            path: Path = ("teams", name)
            if not compiler.is_first(paper, "team", name, path):
                continue
            condition = compiler.condition(paper, spec.condition, (*path, "if"))
            teams[name] = Team(
                name,
                model_matcher(spec.models),
                spec.max_output_tokens,
                frozenset(spec.passthrough),
                condition.or_false(compiler.counter(f"teams.{name}")) if condition else None,
            )
            for place, asked in enumerate(spec.models):
                _warn_of_nobody(compiler, paper, (*path, "models", place), asked, served)
    return teams


def _warn_of_nobody(
    compiler: Compiler, paper: Paper, path: Path, asked: str, served: Mapping[str, Model]
) -> None:
    """A name that no model answers to is likely a slip, yet may be meant for a model still to come."""
    if asked in served or is_glob(asked) or any(is_glob(name) and matcher([name])(asked) for name in served):
        return
    compiler.warnings.append(str(paper.problem(path, f'no model is called "{asked}"')))


def _keys(compiler: Compiler, teams: Mapping[str, Team]) -> dict[str, KeyFacts]:
    keys: dict[str, KeyFacts] = {}
    for paper, document in compiler.of(AccessPaper):
        for place, spec in enumerate(document.keys):
            path: Path = ("keys", place)
            compiler.is_first(paper, "key", spec.name, (*path, "name"))
            compiler.check_name(paper, (*path, "team"), "team", spec.team, teams)
            if spec.hash in keys:
                message = f'is the hash of key "{keys[spec.hash].name}" too; make a key of its own'
                compiler.note(paper, (*path, "hash"), message)
            keys[spec.hash] = KeyFacts(spec.name, spec.team, spec.hash, spec.expires)
    return keys


def _limits(compiler: Compiler, teams: Mapping[str, Team], served: Mapping[str, Model]) -> list[RateLimits]:
    gates = []
    for paper, document in compiler.of(RateLimitsPaper):
        rules = []
        for place, spec in enumerate(document.rules):
            path: Path = ("rules", place)
            compiler.is_first(paper, "rule", spec.id, (*path, "id"))
            for name in [name for name, asked in spec.when if asked == []]:
                never = "is empty, so that the rule never applies; name one, or remove it for any"
                compiler.warnings.append(str(paper.problem((*path, "when", name), never)))
            for at, team in enumerate(spec.when.teams or []):
                if not is_glob(team):
                    compiler.check_name(paper, (*path, "when", "teams", at), "team", team, teams)
            for at, model in enumerate(spec.when.models or []):
                _warn_of_nobody(compiler, paper, (*path, "when", "models", at), model, served)
            if spec.unit == "concurrent" and spec.per is not None:
                compiler.note(
                    paper, (*path, "per"), "concurrent counts calls in flight and takes no per; remove it"
                )
            elif spec.unit != "concurrent" and spec.per is None:
                compiler.note(paper, (*path, "per"), "is missing; add second, minute, hour or day")
            rules.append(_rule(compiler, paper, spec, path))
        gates.append(RateLimits(tuple(rules), document.match == "first"))
    return gates


def _rule(compiler: Compiler, paper: Paper, spec: RuleSpec, path: Path) -> Rule:
    when, per = spec.when, PERIODS[spec.per] if spec.per else 0
    metadata = tuple(
        (name, matcher([values] if isinstance(values, str) else values))
        for name, values in (when.metadata or {}).items()
    )
    return Rule(
        Limit(spec.id, spec.unit, spec.limit, per, spec.mode, spec.on_store_error),
        When(_optional(when.teams), _optional(when.keys), _optional(when.models), metadata),
        compiler.condition(paper, spec.condition, (*path, "if")),
        compiler.counter(spec.id),
        tuple(part(name) for name in spec.for_each),
        spec.assume_output,
    )


def _optional(names: list[str] | None) -> Matcher | None:
    return None if names is None else matcher(names)


def _check_tests(
    compiler: Compiler,
    providers: Mapping[str, CompiledProvider],
    teams: Mapping[str, Team],
    keys: Mapping[str, KeyFacts],
    limits: list[RateLimits],
) -> None:
    """A name that is not there would make a test pass that tests nothing."""
    rules = [rule.limit.rule for gate in limits for rule in gate.rules]
    for paper, document in compiler.of(TestsPaper):
        for place, test in enumerate(document.tests):
            path: Path = ("tests", place)
            compiler.is_first(paper, "test", test.name, (*path, "name"))
            given = (*path, "given")
            if (test.given.key is None) == (test.given.team is None):
                compiler.note(paper, given, "takes a key or a team, one of the two; mend it")
            if not test.expect.model_dump(exclude_none=True):
                message = "asks for nothing; add allowed, refused, rule, target, targets or limits"
                compiler.note(paper, (*path, "expect"), message)
            _check_caller(compiler, paper, given, test.given, teams, [facts.name for facts in keys.values()])
            for at, down in enumerate(test.given.down):
                provider, _, model = down.partition("/")
                known = compiler.check_name(paper, (*given, "down", at), "provider", provider, providers)
                if known and model:
                    named = _named(compiler, test.given.model)
                    compiler.check_name(paper, (*given, "down", at), "target", down, named)
            for rule in test.given.used:
                compiler.check_name(paper, (*given, "used", rule), "rule", rule, rules)
            for at, rule in enumerate(test.expect.limits or []):
                compiler.check_name(paper, (*path, "expect", "limits", at), "rule", rule, rules)
            if test.expect.rule is not None:
                compiler.check_name(paper, (*path, "expect", "rule"), "rule", test.expect.rule, rules)


def _named(compiler: Compiler, asked: str) -> list[str]:
    """What targets are called for a call of a model, whether their providers are on or off."""
    return [
        f"{target.provider}/{target.model or (asked if is_glob(name) else name)}"
        for _, spec in compiler.of(ModelsPaper)
        for name, model in spec.models.items()
        for target in model.targets
    ]


def _check_caller(
    compiler: Compiler,
    paper: Paper,
    path: Path,
    given: GivenSpec,
    teams: Mapping[str, Team],
    keys: list[str],
) -> None:
    if given.key is not None:
        compiler.check_name(paper, (*path, "key"), "key", given.key, keys)
    if given.team is not None:
        compiler.check_name(paper, (*path, "team"), "team", given.team, teams)
