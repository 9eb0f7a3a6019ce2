"""`gateway serve`: run the gateway."""

import argparse
from pathlib import Path
from typing import Any

from gateway.app.sighup import ignore_sighup

_DEFAULT = "(default: %(default)s)"


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "serve",
        help="run the gateway",
        epilog="example: gateway serve --config policies --port 8080",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("policies"),
        metavar="DIR|FILE",
        help=f"the policy files {_DEFAULT}",
    )
    hosts = f"name or address to listen on, :: for IPv6 and IPv4 {_DEFAULT}"
    ports = f"0: any that is free {_DEFAULT}"
    parser.add_argument("--host", default="127.0.0.1", help=f"of the data side: {hosts}")
    parser.add_argument("--port", type=_port, default=8080, help=f"of the data side; {ports}")
    parser.add_argument("--admin-host", default="127.0.0.1", help=f"of the admin side: {hosts}")
    parser.add_argument("--admin-port", type=_port, default=8081, help=f"of the admin side; {ports}")
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help=f"processes; more than one needs GATEWAY_REDIS_URL {_DEFAULT}",
    )
    parser.add_argument(
        "--starter-key",
        action="store_true",
        help='make a key for team "default" and print it, with a curl that works',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    ignore_sighup()
    from gateway.cli.start import start  # loads for half a second, in which a SIGHUP may come

    return start(args)


def _port(text: str) -> int:
    """0 is any that is free. Past 65535 the system would silently take another one."""
    return _number(text, 0, 65535)


def _workers(text: str) -> int:
    return _number(text, 1, 1024)


def _number(text: str, least: int, most: int) -> int:
    if text.isascii() and text.isdigit() and least <= int(text) <= most:
        return int(text)
    raise argparse.ArgumentTypeError(f'takes a number from {least} to {most}, not "{text}"')
