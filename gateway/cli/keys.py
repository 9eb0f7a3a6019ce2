"""`gateway keys create|list|revoke|rotate`: the keys of a running gateway."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gateway.cli.client import Unreachable, add_address, complain, request, sendable
from gateway.cli.table import show


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "keys",
        help="make, list, revoke and rotate keys",
        epilog="example: gateway keys create --name ci --team research --expires 2027-01-31",
    )
    acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
    create = acts.add_parser(
        "create",
        help="make a key; it is shown this once",
        epilog="example: gateway keys create --name ci --team research --expires 2027-01-31",
    )
    create.add_argument("--name", type=sendable, required=True)
    create.add_argument("--team", type=sendable, required=True)
    create.add_argument(
        "--expires", type=sendable, metavar="DATE", help="the first day on which it is not valid, UTC"
    )
    listing = acts.add_parser(
        "list", help="all keys, without the keys themselves", epilog="example: gateway keys list --json"
    )
    revoke = acts.add_parser("revoke", help="end a key at once", epilog="example: gateway keys revoke ci")
    rotate = acts.add_parser(
        "rotate",
        help="put a new key in the place of an old one, which ends at once",
        epilog="example: gateway keys rotate ci",
    )
    for act in (revoke, rotate):
        act.add_argument("name", type=sendable)
    for act in (create, listing, revoke, rotate):
        add_address(act)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        answer = _ask(args)
    except Unreachable as error:
        return complain(f"keys {args.act}", error)
    if args.json:
        print(json.dumps(answer))
    elif args.act == "list":
        _show(answer["keys"])
    elif args.act == "revoke":
        print(f'key "{args.name}" is revoked')
    else:
        print(f"{answer['key']}\n(shown this once: only its hash is kept)")
    return 0


def _ask(args: argparse.Namespace) -> Any:
    if args.act == "create":
        ends = {} if args.expires is None else {"expires": args.expires}  # "" is a date gone wrong, not none
        return request(args, "POST", "/keys", {"name": args.name, "team": args.team} | ends)
    if args.act == "list":
        return request(args, "GET", "/keys")
    if args.name in ("", ".", "..") or "/" in args.name:  # made by an earlier version; a path loses it
        raise Unreachable(
            f'"{args.name}" cannot be asked for by name; take its id, from gateway keys list --json', 400
        )
    name = quote(args.name, safe="")
    return (
        request(args, "DELETE", f"/keys/{name}")
        if args.act == "revoke"
        else request(args, "POST", f"/keys/{name}/rotate")
    )


def _show(keys: list[dict[str, Any]]) -> None:
    rows = [[key["name"], key["team"], _end(key["expires"]), _state(key), key["source"]] for key in keys]
    show(["name", "team", "expires", "state", "from"], rows)


def _end(expires: float | None) -> str:
    return "never" if expires is None else datetime.fromtimestamp(expires, UTC).date().isoformat()


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return "revoked"
    is_over = key["expires"] is not None and key["expires"] <= datetime.now(UTC).timestamp()
    return "expired" if is_over else "valid"
