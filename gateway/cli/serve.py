"""`gateway serve`: run the gateway."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from gateway.app.parent import run_crew
from gateway.app.plan import Plan, kept_secret
from gateway.app.run import raise_descriptor_limit, run_alone
from gateway.cli.output import let_go
from gateway.config.problem import BadPolicies
from gateway.settings import BadSettings, from_environment


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "serve",
        help="run the gateway",
        epilog="example: gateway serve --config policies --port 8080",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("policies"), metavar="DIR|FILE", help="the policy files"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8080)
    parser.add_argument("--admin-host", default="127.0.0.1")
    parser.add_argument("--admin-port", type=_port, default=8081)
    parser.add_argument(
        "--workers", type=_workers, default=1, help="processes; more than one needs GATEWAY_REDIS_URL"
    )
    parser.add_argument(
        "--starter-key",
        action="store_true",
        help='make a key for team "default" and print it, with a curl that works',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        settings = from_environment()
    except BadSettings as error:
        print(f"gateway serve: {error}", file=sys.stderr)
        return 2
    if args.workers > 1 and not settings.redis_url:
        print(
            "gateway serve: more than one worker needs GATEWAY_REDIS_URL: limits are shared through Redis",
            file=sys.stderr,
        )
        return 2
    plan = Plan(
        settings,
        args.config,
        args.host,
        args.port,
        args.admin_host,
        args.admin_port,
        args.workers,
        args.starter_key,
    )
    os.umask(0o077)  # what is made in the data folder is this user's alone, whoever may enter the folder
    raise_descriptor_limit()
    return _run(plan)


def _port(text: str) -> int:
    """0 is any that is free. Past 65535 the system would silently take another one."""
    return _number(text, 0, 65535)


def _workers(text: str) -> int:
    return _number(text, 1, 1024)


def _number(text: str, least: int, most: int) -> int:
    if text.isascii() and text.isdigit() and least <= int(text) <= most:
        return int(text)
    raise argparse.ArgumentTypeError(f'takes a number from {least} to {most}, not "{text}"')


def _run(plan: Plan) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run((run_crew if plan.workers > 1 else run_alone)(plan, _announcer(plan)))
    except BadPolicies as bad:
        print("gateway serve: the policies cannot be used", file=sys.stderr)
        for problem in bad.problems:
            print(problem, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"gateway serve: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1  # a variable that is wrong: used wrongly
    return 0


def _announcer(plan: Plan) -> Any:
    async def announce(desk: Any, office: Any, data: Any, admin: Any) -> None:
        try:
            await tell(desk, office, data, admin)
        except BrokenPipeError:  # it serves, whether anybody reads this or not
            let_go()

    async def tell(desk: Any, office: Any, data: Any, admin: Any) -> None:
        address = _address(data)
        print(f"gatehouse listens on {address}  (admin: {_address(admin)})", flush=True)
        for warning in desk.snapshot.tables.warnings:
            print(f"  note: {warning}", flush=True)
        if plan.starter_key:
            if office.has_engines:
                print("  the local model is starting ...", flush=True)
                await office.engines_ready()
            print(_first_steps(address, kept_secret(plan.data_dir, "starter-key")), flush=True)

    return announce


def _address(sock: Any) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _first_steps(address: str, key: str) -> str:
    return f"""
  Your key (kept in the data folder, the same at each start):
    {key}
  Try it:
    curl -N {address}/v1/chat/completions -H 'Authorization: Bearer {key}' \\
      -H 'Content-Type: application/json' \\
      -d '{{"model": "demo", "stream": true, 
           "messages": [{{"role": "user", "content": "What is Gatehouse?"}}]}}'
  Or in Python: OpenAI(base_url="{address}/v1", api_key="{key}")
"""
