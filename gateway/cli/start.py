"""`gateway serve` once its words are read: the settings, the run, and what is told at the terminal."""

import argparse
import asyncio
import os
import sys
from socket import socket

import uvloop

from gateway.app.office import Office
from gateway.app.parent import run_crew
from gateway.app.plan import Plan, kept_secret
from gateway.app.run import Announce, raise_descriptor_limit, run_alone
from gateway.cli.output import let_go
from gateway.config.policies import Policies
from gateway.config.problem import BadPolicies
from gateway.settings import BadSettings, from_environment


def start(args: argparse.Namespace) -> int:
    """The exit code, once it has ended."""
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


def _announcer(plan: Plan) -> Announce:
    async def announce(policies: Policies, office: Office, data: socket, admin: socket) -> None:
        try:
            await tell(policies, office, data, admin)
        except BrokenPipeError:  # it serves, whether anybody reads this or not
            let_go()

    async def tell(policies: Policies, office: Office, data: socket, admin: socket) -> None:
        address = _address(data)
        print(f"gatehouse listens on {address}  (admin: {_address(admin)})", flush=True)
        for warning in policies.snapshot.tables.warnings:
            print(f"  note: {warning}", flush=True)
        if plan.starter_key:
            if office.has_engines:
                print("  the local model is starting ...", flush=True)
                await office.engines_ready()
            print(_first_steps(address, kept_secret(plan.data_dir, "starter-key")), flush=True)

    return announce


def _address(sock: socket) -> str:
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
