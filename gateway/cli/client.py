"""How commands talk to a running gateway: the admin API, with the token of the data folder."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from gateway.upstream.admin_client import NoAnswer, ask

_WHENCE = "it is taken from GATEWAY_ADMIN_TOKEN, else from the file admin-token in GATEWAY_DATA_DIR"


class Unreachable(Exception):
    """No gateway answers (`status` 0), or it says no; the message is for the person at the terminal."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def add_address(parser: argparse.ArgumentParser) -> None:
    """The options all verbs that ask a running gateway share."""
    default = _variable("GATEWAY_ADMIN_URL") or "http://127.0.0.1:8081"
    parser.add_argument(
        "--admin-url", default=default, help="where the admin API listens (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


def sendable(text: str) -> str:
    """The type of an argument that goes to the gateway. Raises ArgumentTypeError."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8") from None
    return text


def request(args: argparse.Namespace, method: str, path: str, body: Any = None, seconds: float = 30.0) -> Any:
    """The JSON answer, which is waited for so many seconds. Raises Unreachable."""
    try:
        status, answer = ask(args.admin_url, method, f"/admin/v1{path}", admin_token(), body, seconds)
    except NoAnswer as error:
        raise Unreachable(
            f"no gateway answers at {args.admin_url} ({error}); is `gateway serve` running? --admin-url or "
            "GATEWAY_ADMIN_URL tells where"
        ) from None
    if status >= 400:
        message = answer.get("error", {}).get("message") if isinstance(answer, dict) else None
        remedy = f"; {_WHENCE}" if status == 401 else ""
        raise Unreachable(f"{message or f'the gateway answered {status}'}{remedy}", status)
    return answer


def admin_token() -> str:
    """From GATEWAY_ADMIN_TOKEN, else from the data folder; empty where there is none."""
    if token := _variable("GATEWAY_ADMIN_TOKEN"):
        return token
    path = Path(_variable("GATEWAY_DATA_DIR") or ".gateway") / "admin-token"
    try:
        return path.read_text(errors="surrogateescape").strip()
    except OSError:
        return ""


def _variable(name: str) -> str:
    """As the gateway reads it."""
    return os.environ.get(name, "").rstrip("\r\n")


def complain(verb: str, error: Unreachable) -> int:
    """2 for what cannot be asked for, 1 where the answer is no."""
    print(f"gateway {verb}: {error}", file=sys.stderr)
    return 2 if error.status == 400 else 1
