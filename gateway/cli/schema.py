"""`gateway schema`: the JSON Schema of policy files, for editors."""

import argparse
import json
from typing import Any

from gateway.config.json_schema import json_schema


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "schema",
        help="print the JSON Schema of the policy files",
        epilog="example: gateway schema > policies/schema.json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (it always is)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0
