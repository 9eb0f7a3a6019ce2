"""Why a call would go where it goes: rules that match and why the others do not, limits, targets in order."""

from collections.abc import Sequence
from typing import Any

from gateway.config.course import meets
from gateway.config.dry_run import DryRun, dry_run, is_down
from gateway.config.schema import GivenSpec
from gateway.config.snapshot import Snapshot
from gateway.config.targets import WHY_OFF
from gateway.core.exchange import Target
from gateway.core.failure import NotFound
from gateway.core.key import KeyFacts
from gateway.policy.capabilities import lacks
from gateway.policy.rate_limit import SEPARATOR
from gateway.providers.registry import serves


def explain(
    snapshot: Snapshot, given: GivenSpec, clock: float, issued: Sequence[KeyFacts] = ()
) -> dict[str, Any]:
    """A plain dictionary: `policies`, `allowed`, `refused`, `team`, `model`, `rules`, `limits`, `targets`.
    `clock` is what conditions see as `time`, in seconds since the epoch; `issued` are keys made at run time."""
    run = dry_run(snapshot, given, clock, issued)
    return {
        "policies": snapshot.version,
        "allowed": not run.code,
        "refused": {"code": run.code, "message": run.message, "rule": run.rule} if run.code else None,
        "team": run.lane.team.name if run.lane else given.team,
        "model": run.lane.model if run.lane else None,
        "rules": _rules(snapshot, run),
        "limits": _limits(run),
        "targets": _targets(snapshot, run, given),
    }


def _rules(snapshot: Snapshot, run: DryRun) -> list[dict[str, Any]]:
    """Every rule of the files with the first predicate that fails, where one does."""
    rows: list[dict[str, Any]] = []
    for gate in snapshot.tables.limits if run.exchange is not None else ():
        winner = ""
        for rule in gate.rules:
            assert run.exchange is not None
            missed = f"rule {winner} matched first" if winner else rule.misses(run.exchange)
            rows.append({"rule": rule.limit.rule, "matches": not missed, "because": missed or None})
            if gate.first and not missed:
                winner = rule.limit.rule
    return rows


def _limits(run: DryRun) -> list[dict[str, Any]]:
    return [
        {
            "rule": claim.limit.rule,
            "bucket": claim.bucket.split(SEPARATOR) if claim.bucket else [],
            "amount": claim.amount,
            "limit": claim.limit.limit,
            "unit": claim.limit.unit,
            "per_seconds": claim.limit.per or None,
            "mode": claim.limit.mode,
        }
        for claim in run.claims
    ]


def _targets(snapshot: Snapshot, run: DryRun, given: GivenSpec) -> list[dict[str, Any]]:
    """In the order they are tried; those that are not stand at the end with the reason. One that is tried late tells
    what it cannot carry, and `dropped` names what each goes without."""
    return _ready(run, given) + _off(snapshot, run, given)


def _off(snapshot: Snapshot, run: DryRun, given: GivenSpec) -> list[dict[str, Any]]:
    """Those of a provider that is off. Where all are, there is no lane, and to the caller no such model."""
    model = snapshot.find(given.model) if run.lane or run.code == NotFound.code else None
    why = f"its provider is {WHY_OFF}"
    return [_row(target, given, None, why, []) for target in model.off] if model else []


def _ready(run: DryRun, given: GivenSpec) -> list[dict[str, Any]]:
    if run.lane is None or run.exchange is None:
        return []
    rows: list[dict[str, Any]] = [
        _row(target, given, place, _in_the_way(run, target), dropped)
        for place, (target, dropped) in enumerate(zip(run.targets, run.dropped, strict=True), 1)
    ]
    left = [target for target in run.lane.targets if not any(target is one for one in run.targets)]
    return rows + [_row(target, given, None, _why_not(run, target, given), []) for target in left]


def _row(
    target: Target, given: GivenSpec, tried: int | None, because: str | None, dropped: list[str]
) -> dict[str, Any]:
    name = target.asked_name(given.model)
    return {"target": name, "tried": tried, "because": because, "dropped": dropped}


def _in_the_way(run: DryRun, target: Target) -> str | None:
    """Why it was passed over."""
    return next((error.message for one, error in run.refusals if one is target), None)


def _why_not(run: DryRun, target: Target, given: GivenSpec) -> str:
    assert run.exchange is not None
    call = run.exchange.call
    if not meets(target, run.exchange):
        return "its if does not hold"
    if not serves(call.dialect, call.model, target):
        return "its provider has no such endpoint"
    if is_down(target, given):
        return "it is down"
    if why := _in_the_way(run, target):
        return why
    wish = lacks(target, run.exchange)
    return f"it cannot serve {wish}" if wish else "the call is refused before"
