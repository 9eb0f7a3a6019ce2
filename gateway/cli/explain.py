"""`gateway explain`: which rules and targets a call would meet, and why not the others."""

import argparse
import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import orjson

from gateway.app.plan import Plan
from gateway.cli.check import tell_problems
from gateway.config.compiler import CompileOptions
from gateway.config.explain import explain
from gateway.config.policies import load_policies
from gateway.config.problem import BadPolicies
from gateway.config.schema import DialectName, GivenSpec
from gateway.config.snapshot import Snapshot
from gateway.core.key import KeyFacts
from gateway.settings import BadSettings, from_environment
from gateway.state.database import Database
from gateway.state.fault import named_database
from gateway.state.keystore import KeyStore


class _Misused(Exception):
    """An argument that cannot be used."""


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "explain",
        help="say which rules and targets a call would meet, and why",
        epilog="example: gateway explain policies --team default --model demo --metadata env=prod",
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("policies"), metavar="DIR|FILE")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--key", metavar="NAME", help="the name of a key, of the policy files or made at run time"
    )
    who.add_argument("--team", metavar="TEAM")
    parser.add_argument("--model", required=True, metavar="MODEL", help="the model as the app asks for it")
    parser.add_argument("--request", type=Path, metavar="FILE", help="the JSON body of the call")
    parser.add_argument(
        "--dialect",
        choices=get_args(DialectName),
        metavar="DIALECT",
        help="of the body (default openai.chat)",
    )
    parser.add_argument("--metadata", action="append", default=[], metavar="K=V")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        settings = from_environment()
        snapshot = load_policies(args.path, CompileOptions(settings.data_dir))
        now = time.time()  # noqa: TID251  the clock enters here
        issued = [] if args.key is None else _issued(args.key, snapshot, Plan(settings, args.path), now)
        found = explain(snapshot, _given(args, snapshot), now, issued)
    except BadPolicies as bad:
        tell_problems(bad, as_json=args.json)
        return 1
    except (BadSettings, _Misused) as error:
        print(f"gateway explain: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2) if args.json else _told(found))
    return 0 if found["allowed"] else 1


def _issued(name: str, snapshot: Snapshot, plan: Plan, now: float) -> list[KeyFacts]:
    """The key of that name, where the policy files have none: it was made at run time. Raises _Misused."""
    if any(facts.name == name for facts in snapshot.keys.values()):
        return []
    url, is_set = plan.database_url, bool(plan.settings.database_url)
    scheme, _, file = url.partition("?")[0].partition(":///")
    facts = None
    try:
        if scheme != "sqlite" or _is_there(file):  # who only looks makes no file
            with named_database(url, is_set=is_set), closing(Database(url, to_read=True)) as database:
                facts = KeyStore(database, lambda: now, lambda level, message: None).named(name)
    except (OSError, ValueError) as error:
        raise _Misused(str(error)) from None
    if facts is None:
        raise _Misused(
            f'no key "{name}" stands in the policy files or is in use among those that were made at run time, as '
            "GATEWAY_DATA_DIR or GATEWAY_DATABASE_URL has them; point these there, or give its --team"
        )
    return [facts]


def _is_there(file: str) -> bool:
    """Raises OSError where nobody lets us look, which `Path.exists` takes for no from Python 3.14 on."""
    try:
        os.stat(file)
    except FileNotFoundError:
        return False
    return True


def _given(args: argparse.Namespace, snapshot: Snapshot) -> GivenSpec:
    """Raises _Misused."""
    if args.team is not None and args.team not in snapshot.teams:
        raise _Misused(f'there is no team "{args.team}"; there is {", ".join(sorted(snapshot.teams))}')
    metadata = dict(pair.split("=", 1) if "=" in pair else _no_pair(pair) for pair in args.metadata)
    body = _body(args.request)
    try:
        return GivenSpec(
            key=args.key,
            team=args.team,
            model=args.model,
            metadata=metadata,
            dialect=args.dialect,
            request=body,
        )
    except ValueError:
        told = "--model takes 1 to 256 characters, none of control, and all that is given is UTF-8"
        raise _Misused(told) from None


def _no_pair(text: str) -> tuple[str, str]:
    raise _Misused(f'--metadata takes K=V, not "{text}"')


def _body(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        body = orjson.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _Misused(f"--request {file}: {error}") from None
    if not isinstance(body, dict):
        raise _Misused(f"--request {file}: must hold a JSON object")
    return body


def _told(found: dict[str, Any]) -> str:
    refused = found["refused"]
    verdict = f"refused: {refused['code']}: {refused['message']}" if refused else "allowed"
    lines = [verdict, f"team {found['team']}, model {found['model'] or 'none'}, policies {found['policies']}"]
    lines += ["rules:"] if found["rules"] else []
    for rule in found["rules"]:
        lines.append(f"  {rule['rule']}: {'matches' if rule['matches'] else 'no: ' + rule['because']}")
    lines += ["limits:"] if found["limits"] else []
    for limit in found["limits"]:
        per = f" per {limit['per_seconds']} s" if limit["per_seconds"] else ""
        bucket = (
            f", bucket {' / '.join(value or '(none)' for value in limit['bucket'])}"
            if limit["bucket"]
            else ""
        )
        shadow = ", shadow" if limit["mode"] == "shadow" else ""
        of = f"{limit['amount']} of {limit['limit']} {limit['unit']}{per}"
        lines.append(f"  {limit['rule']}: takes {of}{bucket}{shadow}")
    lines += ["targets:"] if found["targets"] else []
    for target in found["targets"]:
        lines.append(f"  {target['tried'] or '-'}. {target['target']}{_aside(target)}")
    return "\n".join(lines)


def _aside(target: dict[str, Any]) -> str:
    said = (
        [f"not {'sooner' if target['tried'] else 'tried'}: {target['because']}"] if target["because"] else []
    )
    said += [f"without {', '.join(target['dropped'])}"] if target["dropped"] else []
    return f"  ({'; '.join(said)})" if said else ""
