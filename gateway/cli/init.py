"""`gateway init`: a commented starter folder of policies."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import gateway
from gateway.config.json_schema import json_schema


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "init",
        help="write a commented starter folder of policies",
        epilog="example: gateway init policies && gateway serve --config policies",
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("policies"), metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    folder: Path = args.path
    texts = {"gateway.yaml": starter(), "schema.json": json.dumps(json_schema(), indent=2) + "\n"}
    try:
        there = [name for name in texts if (folder / name).exists()]
        if there:
            print(f"gateway init: {folder / there[0]} is there already; nothing was written", file=sys.stderr)
            return 1
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"gateway init: {folder} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"written": [str(folder / name) for name in texts]}))
    else:
        print(f"wrote {folder}/gateway.yaml and schema.json; next: gateway check {folder}")
    return 0


def starter() -> str:
    """The policy file that ships: inside the package once installed, beside it in a checkout."""
    package = Path(gateway.__file__).parent
    folders = (package / "policies", package.parent / "policies")
    found = next(folder for folder in folders if (folder / "gateway.yaml").is_file())
    return (found / "gateway.yaml").read_text(encoding="utf-8")
