"""`gateway check`: load, validate, compile and test a policy folder without running it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gateway.config.compiler import CompileOptions
from gateway.config.policies import load_policies
from gateway.config.problem import BadPolicies
from gateway.config.snapshot import Snapshot
from gateway.settings import BadSettings, from_environment


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "check",
        help="check a policy folder and run its tests",
        description="Load, validate, compile and test. Faults come as file:line:col: field: what; remedy.",
        epilog="example: gateway check policies",
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("policies"), metavar="DIR|FILE")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        options = CompileOptions(from_environment().data_dir)
    except BadSettings as error:
        print(f"gateway check: {error}", file=sys.stderr)
        return 2
    try:
        snapshot = load_policies(args.path, options)
    except BadPolicies as bad:
        tell_problems(bad, as_json=args.json)
        return 1
    _tell_good(snapshot, as_json=args.json)
    return 0


def tell_problems(bad: BadPolicies, *, as_json: bool) -> None:
    if not as_json:
        for problem in bad.problems:
            print(problem)
        return
    rows = [
        {**problem.place._asdict(), "field": problem.field, "message": problem.message}
        for problem in bad.problems
    ]
    print(json.dumps({"ok": False, "problems": rows}, indent=2))


def _tell_good(snapshot: Snapshot, *, as_json: bool) -> None:
    tables = snapshot.tables
    counts = {
        "models": len(tables.exact) + len(tables.globs),
        "providers": len(tables.providers),
        "teams": len(snapshot.teams),
        "keys": len(snapshot.keys),
        "rules": sum(len(gate.rules) for gate in tables.limits),
    }
    if as_json:
        good = {"ok": True, "version": snapshot.version, **counts, "warnings": list(tables.warnings)}
        print(json.dumps(good, indent=2))
        return
    for warning in tables.warnings:
        print(f"note: {warning}")
    told = ", ".join(f"{count} {noun if count != 1 else noun[:-1]}" for noun, count in counts.items())
    print(f"ok: {told}; version {snapshot.version}")
