"""The command line: one parser, one verb per file."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from gateway import __version__
from gateway.cli.output import CUT_OFF, hold_streams, let_go

# Imported when the command line is parsed: `gateway check` need not pay for what `serve` needs.
VERBS = ("serve", "check", "explain", "schema", "init", "keys", "usage")
NOT_YET = ("diff", "replay", "audit", "import")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: good; 1: the answer is no; 2: used wrongly; 141: whoever reads what is printed had enough."""
    hold_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in NOT_YET:
        print(f"gateway {given[0]}: is not built yet; there is {', '.join(VERBS)}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="gateway", description="One gateway to all your model providers.")
    parser.add_argument("--version", action="version", version=f"gatehouse {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    wanted = [verb for verb in VERBS if given[:1] == [verb]] or VERBS
    for verb in wanted:
        importlib.import_module(f"gateway.cli.{verb}").add(verbs)
    try:
        args = parser.parse_args(given)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 2
    try:
        code: int = args.run(args)
        print(end="", flush=True)  # also where there is none
    except BrokenPipeError:
        let_go()
        return CUT_OFF
    return code
