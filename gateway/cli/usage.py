"""`gateway usage`: what was used, by team, model and more."""

import argparse
import json
from typing import Any
from urllib.parse import urlencode

from gateway.cli.client import Unreachable, add_address, complain, request, sendable
from gateway.cli.table import show

LONGEST = 75.0  # seconds; the gateway gives up a report after 60, and says so
_COLUMNS = ("calls", "prompt_tokens", "completion_tokens", "estimated", "cost_usd")


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "usage",
        help="calls and tokens, from the ledger",
        epilog="example: gateway usage --by team,model --since 24h",
    )
    parser.add_argument(
        "--by",
        type=sendable,
        default="team,model",
        help="comma-separated: key, team, user, model, provider, route ...",
    )
    parser.add_argument(
        "--since",
        type=sendable,
        default="",
        metavar="SPAN",
        help="such as 30m, 24h or 7d (default: all time)",
    )
    add_address(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    asked = {"by": args.by} | ({"since": args.since} if args.since else {})
    try:
        answer = request(args, "GET", f"/usage?{urlencode(asked)}", seconds=LONGEST)
    except Unreachable as error:
        return complain("usage", error)
    if args.json:
        print(json.dumps(answer))
        return 0
    names = [name for name in dict.fromkeys(args.by.split(",")) if name]
    rows = [[*(str(row[name]) for name in names), *_cells(row)] for row in answer["rows"]]
    total = [*(["total", *[""] * (len(names) - 1)] if names else []), *_cells(answer["total"])]
    heads = [*names, *(name.replace("_", " ") for name in _COLUMNS)]
    show(heads, rows, total, numbers=len(_COLUMNS))
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    return ["-" if row[name] is None else f"{row[name]:,}" for name in _COLUMNS]
