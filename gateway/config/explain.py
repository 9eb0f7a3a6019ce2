"""Why a call would go where it goes: rules that match and why the others do not, limits, targets in order."""

from typing import Any

from gateway.config.compile import exchange_matches
from gateway.config.schema import GivenSpec
from gateway.config.snapshot import Snapshot
from gateway.config.trial import Trial, try_call


def explain(snapshot: Snapshot, given: GivenSpec, clock: float) -> dict[str, Any]:
    """A plain dictionary: `allowed`, `refused`, `policies`, `model`, `rules`, `limits`, `targets`."""
    trial = try_call(snapshot, given, clock)
    return {
        "policies": snapshot.version,
        "allowed": not trial.code,
        "refused": {"code": trial.code, "message": trial.message, "rule": trial.rule} if trial.code else None,
        "model": trial.lane.model if trial.lane else None,
        "team": trial.lane.team.name if trial.lane else given.team,
        "rules": _rules(snapshot, trial),
        "limits": [
            {
                "rule": claim.limit.rule,
                "bucket": claim.bucket.replace("\x1f", ", ") or "(one for all)",
                "amount": claim.amount,
                "limit": claim.limit.limit,
                "unit": claim.limit.unit,
                "per_seconds": claim.limit.per or None,
                "mode": claim.limit.mode,
            }
            for claim in trial.claims
        ],
        "targets": _targets(trial, given),
    }


def _rules(snapshot: Snapshot, trial: Trial) -> list[dict[str, Any]]:
    if trial.exchange is None:
        return []
    rows = []
    for gate in snapshot.tables.limits:
        matched = False
        for rule in gate.rules:
            missed = rule.misses(trial.exchange)
            if not missed and gate.first and matched:
                missed = "an earlier rule matched first"
            matched = matched or not missed
            rows.append({"rule": rule.limit.rule, "matches": not missed, "because": missed or None})
    return rows


def _targets(trial: Trial, given: GivenSpec) -> list[dict[str, Any]]:
    if trial.lane is None or trial.exchange is None:
        return []
    chosen = [target.name for target in trial.targets]
    rows = [
        {"target": target.asked_name(given.model), "tried": place}
        for place, target in enumerate(trial.targets, 1)
    ]
    for target in trial.lane.targets:
        if target.name not in chosen:
            why = "down" if exchange_matches(target, trial.exchange) else "its condition does not hold"
            rows.append({"target": target.asked_name(given.model), "tried": None, "because": why})
    return rows
