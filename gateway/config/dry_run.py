"""A call that goes nowhere: what the policies would do with it. In-file tests and `explain` are made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.config.course import Course, usable
from gateway.config.load import Papers
from gateway.config.problem import Problem
from gateway.config.schema import ExpectSpec, GivenSpec, TestsPaper, TestSpec
from gateway.config.snapshot import Lane, Snapshot, Team
from gateway.core.claim import Claim
from gateway.core.exchange import Call, Caller, Exchange, Target
from gateway.core.failure import (
    BadRequest,
    GatewayError,
    LimitReached,
    NeverFits,
    NoTarget,
    Unauthorized,
)
from gateway.core.key import KeyFacts
from gateway.policy import access
from gateway.state.bucket import Shortage, refusal
from gateway.wire.registry import DIALECTS, ROUTES

CLOCK = 1_800_000_000.0  # the moment conditions see in tests: 2027-01-15 08:00 UTC
# What a body cannot do without, where a call says nothing of it.
_LEAST: Mapping[str, Mapping[str, Any]] = {
    "openai.chat": {"messages": []},
    "openai.completions": {"prompt": ""},
    "openai.embeddings": {"input": ""},
    "openai.responses": {"input": ""},
    "anthropic.messages": {"messages": []},
    "anthropic.count_tokens": {"messages": []},
    "gemini.generate": {"contents": []},
    "gemini.count_tokens": {"contents": []},
    "gemini.embed": {"content": {"parts": [{"text": ""}]}},
    "gemini.batch_embed": {"requests": []},
    "cohere.rerank": {"query": "", "documents": []},
    "cohere.rerank_v1": {"query": "", "documents": []},
}


@dataclass(slots=True)
class DryRun:
    """What became of the call. `targets` are in the order they would be tried if each failed, those down left out."""

    code: str = ""  # of the refusal, "" when allowed
    message: str = ""
    rule: str = ""  # the rule that refused
    targets: list[Target] = field(default_factory=list)
    dropped: list[list[str]] = field(default_factory=list)  # the fields that each of them goes without
    refusals: list[tuple[Target, BadRequest]] = field(default_factory=list)  # why a target was passed over
    claims: list[Claim] = field(default_factory=list)
    lane: Lane | None = None
    exchange: Exchange | None = None


class NothingKnown:
    """The health of targets none of which was ever called."""

    def latency(self, asked: str) -> float | None:
        return None

    def in_flight(self, asked: str) -> int:
        return 0


def dry_run(
    snapshot: Snapshot, given: GivenSpec, now: float | None = None, issued: Sequence[KeyFacts] = ()
) -> DryRun:
    """Walk the corridor's decisions for one described call, without a clock, a store or a network. In tests there is
    no `now`: no key has expired then. `issued` are keys that the files do not name."""
    run = DryRun()
    try:
        caller = _caller([*snapshot.keys.values(), *issued], snapshot.teams, given, now)
        _walk(snapshot, given, run, caller, CLOCK if now is None else now)
    except GatewayError as error:
        run.code, run.message = error.code, error.message
        if isinstance(error, LimitReached | NeverFits):
            run.rule = error.rule
    return run


def _walk(snapshot: Snapshot, given: GivenSpec, run: DryRun, caller: Caller, clock: float) -> None:
    call = _call(given)
    run.lane = lane = snapshot.lane(caller, given.model)
    assert isinstance(call.body, bytes)
    shape = DIALECTS[call.dialect].shape(call.payload, len(call.body))
    run.exchange = exchange = Exchange("dry-run", call, caller, "dry-run", 0.0, clock, shape, dry_run=True)
    exchange.model = lane.model
    team = lane.team
    access.check(exchange, team.name, team.max_output_tokens, team.condition)
    refused = _find_targets(run, exchange, lane, given)
    run.claims = lane.claims(exchange)
    _check_used(run.claims, given)
    if not run.targets:
        raise refused or NoTarget("no target is left that could be tried")


def _find_targets(run: DryRun, exchange: Exchange, lane: Lane, given: GivenSpec) -> BadRequest | None:
    """Find the targets that would be tried; why the call is refused where that is because of what it holds."""
    course = Course(exchange, lane, usable(exchange, lane, NothingKnown(), lambda: 0.5))
    for target, prepared, _ in course:
        course.failed = True
        if not is_down(target, given):
            run.targets.append(target)
            run.dropped.append(prepared.dropped)
    run.refusals = course.refusals
    return course.refused()


def _check_used(claims: Sequence[Claim], given: GivenSpec) -> None:
    """Raises what the stores would."""
    used = [(claim, given.used.get(claim.limit.rule, 0)) for claim in claims if claim.limit.mode == "enforce"]
    short = [Shortage(claim, n, 0) for claim, n in used if n + claim.amount > claim.limit.limit]
    if short:
        raise refusal(short)


def _caller(
    keys: Sequence[KeyFacts], teams: Mapping[str, Team], given: GivenSpec, now: float | None
) -> Caller:
    team, key = given.team, given.key or ""
    if given.key is not None:
        facts = next((one for one in keys if one.name == given.key), None)
        if facts is None:
            raise Unauthorized(f'no key named "{given.key}"')
        if now is not None and facts.expires is not None and facts.expires <= now:
            raise Unauthorized(f'the key "{given.key}" has expired')
        team = facts.team
    if team is None or team not in teams:
        raise Unauthorized(f'no team named "{team}"')
    metadata = dict(given.metadata)
    return Caller(key, team, given.user or metadata.get("user", ""), metadata)


def _call(given: GivenSpec) -> Call:
    """Raises BadRequest for a body that its dialect has no use for, or that no JSON holds."""
    dialect = given.dialect or _dialect_of(given.request)
    said, stream = {**_LEAST[dialect], **given.request}, False
    if dialect.startswith("gemini."):
        stream = said.pop("stream", False) is True  # by its path, which names the model, too
    else:
        said["model"] = given.model
    try:
        body = orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise BadRequest(f"the request cannot be written as JSON ({error})") from None
    reading = DIALECTS[dialect].read(body)
    asked = reading.stream or stream
    return Call(ROUTES[dialect], dialect, "POST", "", body, reading.payload, given.model, asked)


def _dialect_of(request: Mapping[str, Any]) -> str:
    """Chat, unless the fields are those of a rerank."""
    is_rerank = isinstance(request.get("query"), str) and isinstance(request.get("documents"), list)
    return "cohere.rerank" if is_rerank else "openai.chat"


def is_down(target: Target, given: GivenSpec) -> bool:
    """Whether the call's description says so."""
    return target.provider in given.down or target.asked_name(given.model) in given.down


def run_tests(papers: Papers, snapshot: Snapshot) -> list[Problem]:
    """The in-file tests against a snapshot in which every provider counts as on; what failed, with place."""
    problems = []
    for document in papers.documents:
        if isinstance(document.spec, TestsPaper):
            for place, test in enumerate(document.spec.tests):
                for what, message in _judge(test, dry_run(snapshot, test.given)):
                    path = ("tests", place, "expect", what)
                    problems.append(
                        document.paper.problem(
                            path, f'test "{test.name}" fails: {message}; mend the policies or the test'
                        )
                    )
    return problems


def _judge(test: TestSpec, run: DryRun) -> list[tuple[str, str]]:
    expect = test.expect
    came = f"refused: {run.code} ({run.message})" if run.code else "allowed"
    # A call that is refused goes nowhere, wherever it would have gone.
    names = [] if run.code else [target.asked_name(test.given.model) for target in run.targets]
    checks: Mapping[str, tuple[Any, bool, str]] = {
        "allowed": (expect.allowed, expect.allowed == (not run.code), came),
        "refused": (expect.refused, expect.refused == run.code, came),
        "rule": (expect.rule, expect.rule == run.rule, f'the rule is "{run.rule}", {came}'),
        "target": (
            expect.target,
            _is_target(expect, run, names),
            f"the first is {(names or ['none'])[0]}, {came}",
        ),
        "targets": (
            expect.targets,
            _are_targets(expect, run, names),
            f"they are {', '.join(names) or f'none, {came}'}",
        ),
        "limits": (
            expect.limits,
            sorted(expect.limits or []) == sorted(claim.limit.rule for claim in run.claims),
            f"they are {', '.join(claim.limit.rule for claim in run.claims) or 'none'}",
        ),
    }
    return [
        (what, message) for what, (asked, good, message) in checks.items() if asked is not None and not good
    ]


def _is_target(expect: ExpectSpec, run: DryRun, names: Sequence[str]) -> bool:
    return bool(names) and expect.target in (names[0], run.targets[0].provider)


def _are_targets(expect: ExpectSpec, run: DryRun, names: Sequence[str]) -> bool:
    wanted = expect.targets or []
    pairs = zip(wanted, names, run.targets, strict=False)
    return len(wanted) == len(names) and all(want in (name, one.provider) for want, name, one in pairs)
