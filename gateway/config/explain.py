"""Why a call would go where it goes: rules that match and why the others do not, limits, targets in order."""

from typing import Any

from gateway.config.schema import GivenSpec
from gateway.config.snapshot import Snapshot
from gateway.config.trial import Trial, meets, try_call
from gateway.core.exchange import Target
from gateway.policy.capabilities import lacks
from gateway.policy.rate_limit import SEPARATOR
from gateway.providers.registry import serves


def explain(snapshot: Snapshot, given: GivenSpec, clock: float) -> dict[str, Any]:
    """A plain dictionary: `policies`, `allowed`, `refused`, `team`, `model`, `rules`, `limits`, `targets`.
    `clock` is what conditions see as `time`, in seconds since the epoch."""
    trial = try_call(snapshot, given, clock)
    return {
        "policies": snapshot.version,
        "allowed": not trial.code,
        "refused": {"code": trial.code, "message": trial.message, "rule": trial.rule} if trial.code else None,
        "team": trial.lane.team.name if trial.lane else given.team,
        "model": trial.lane.model if trial.lane else None,
        "rules": _rules(snapshot, trial),
        "limits": _limits(trial),
        "targets": _targets(trial, given),
    }


def _rules(snapshot: Snapshot, trial: Trial) -> list[dict[str, Any]]:
    """Every rule of the files with the first predicate that fails, where one does."""
    rows: list[dict[str, Any]] = []
    for gate in snapshot.tables.limits if trial.exchange is not None else ():
        winner = ""
        for rule in gate.rules:
            assert trial.exchange is not None
            missed = f"rule {winner} matched first" if winner else rule.misses(trial.exchange)
            rows.append({"rule": rule.limit.rule, "matches": not missed, "because": missed or None})
            if gate.first and not missed:
                winner = rule.limit.rule
    return rows


def _limits(trial: Trial) -> list[dict[str, Any]]:
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
        for claim in trial.claims
    ]


def _targets(trial: Trial, given: GivenSpec) -> list[dict[str, Any]]:
    """In the order they are tried; those that are not stand at the end with the reason."""
    if trial.lane is None or trial.exchange is None:
        return []
    rows: list[dict[str, Any]] = [
        {"target": target.asked_name(given.model), "tried": place, "because": None}
        for place, target in enumerate(trial.targets, 1)
    ]
    left = [target for target in trial.lane.targets if not any(target is one for one in trial.targets)]
    return rows + [
        {"target": target.asked_name(given.model), "tried": None, "because": _why_not(trial, target)}
        for target in left
    ]


def _why_not(trial: Trial, target: Target) -> str:
    assert trial.exchange is not None
    if not meets(target, trial.exchange):
        return "its if does not hold"
    if not serves(trial.exchange.call, target):
        return "its provider has no such endpoint"
    wish = lacks(target, trial.exchange)
    return f"it cannot serve {wish}" if wish else "it is down"
