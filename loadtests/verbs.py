"""The verbs of `python -m loadtests` that need no torch."""

import argparse
import json
from dataclasses import asdict

import uvloop

from loadtests import bench, bench_translate, drills, fake_upstream, generator
from loadtests.children import KEY


def main() -> int:
    """0: good; 1: a drill failed; 2: used wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests", description="Load, comparison and fault drills."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    table = verbs.add_parser("bench", help="direct, nginx and the gateway side by side")
    table.add_argument("--rounds", type=int, default=3)
    table.add_argument("--seconds", type=float, default=5.0)
    table.add_argument("--rate", type=int, default=1000, help="requests/s for the latencies")
    table.add_argument("--quick", action="store_true", help="without streams and memory")
    table.add_argument("--json", action="store_true")
    translate = verbs.add_parser("translate", help="CPU of every translation, over none")
    translate.add_argument("--rounds", type=int, default=5)
    translate.add_argument("--calls", type=int, default=2000, help="of each kind and round")
    verbs.add_parser("engine", help="the local engine, on the processor or a GPU; --help tells more")
    upstream = verbs.add_parser("upstream", help="run the fake upstream")
    upstream.add_argument("--port", type=int, default=9001)
    load = verbs.add_parser("load", help="drive one port of this machine")
    load.add_argument("--port", type=int, required=True)
    load.add_argument("--rate", type=int, default=0, help="requests/s; 0: as many as go")
    load.add_argument("--seconds", type=float, default=5.0)
    load.add_argument("--model", default="gpt-4o-mini")
    load.add_argument("--key", default=KEY)
    drill = verbs.add_parser("drill", help="one fault, and what must hold")
    drill.add_argument("name", choices=[*sorted(drills.DRILLS), "all"])
    drill.add_argument("--seconds", type=float, default=0.0, help="how long, where a drill has a duration")
    drill.add_argument("--seed", type=int, default=1, help="of what chaos draws")
    return _run(parser.parse_args())


def _run(args: argparse.Namespace) -> int:
    if args.verb == "bench":
        return bench.run(args.rounds, args.seconds, args.rate, quick=args.quick, as_json=args.json)
    if args.verb == "translate":
        return bench_translate.run(args.rounds, args.calls)
    if args.verb == "upstream":
        uvloop.run(fake_upstream.serve(args.port))
        return 0
    if args.verb == "load":
        request = generator.request_bytes(args.port, "/v1/chat/completions", bench.body(args.model), args.key)
        if args.rate:
            result = uvloop.run(generator.constant_rate(args.port, request, args.rate, args.seconds))
        else:
            result = uvloop.run(generator.saturate(args.port, request, 64, args.seconds))
        print(json.dumps(asdict(result)))
        return 0
    return drills.run(args.name, args.seconds, args.seed)
