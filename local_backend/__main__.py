"""`python -m local_backend --model DIR|bundled`: serve one model over OpenAI's HTTP API."""

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from local_backend.client import EngineThread
from local_backend.config import ModelConfig, UnusableModel, folder_of
from local_backend.formats import FORMATS
from local_backend.options import EngineConfig
from local_backend.preparation import Preparation
from local_backend.server import Server
from local_backend.trial import compiler_of

if TYPE_CHECKING:
    from local_backend.engine import Engine

_UNITS = {"": 1, "MiB": 1 << 20, "GiB": 1 << 30}


def main() -> int:
    """0: ended in order; 1: the model cannot be served; 2: used wrongly."""
    args = _parser().parse_args()
    try:
        folder = folder_of(args.model)
        ModelConfig.load(folder)  # a folder that cannot be served is told before anything is opened
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(args, folder))
    except (UnusableModel, OSError) as error:
        print(f"local_backend: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_backend",
        description=__doc__,
        epilog="example: python -m local_backend --model bundled --listen 127.0.0.1:8000",
    )
    parser.add_argument("--model", required=True, metavar="DIR|bundled")
    parser.add_argument("--listen", default="127.0.0.1:8000", metavar="unix:PATH|HOST:PORT")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="GPUs are not built yet")
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of weights and cache; auto: as stored, small models in float32",
    )
    parser.add_argument(
        "--quantize", choices=["none", "int8"], default="none", help="weights, while they are loaded"
    )
    parser.add_argument(
        "--tool-format",
        choices=list(FORMATS),
        help="how the model writes tool calls; by default what its chat template shows",
    )
    parser.add_argument("--served-name", action="append", default=[], metavar="NAME")
    parser.add_argument("--max-len", type=int, help="tokens of prompt and answer together")
    parser.add_argument("--max-seqs", type=int, default=64, help="requests decoded at once")
    parser.add_argument("--max-waiting", type=int, default=256, help="requests that may wait; past it a 503")
    parser.add_argument(
        "--kv-memory", type=_size, default=1 << 30, metavar="SIZE", help="such as 512MiB or 1GiB"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="of the processor; 0: as many as suit the model"
    )
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input is closed")
    return parser


def _size(text: str) -> int:
    for unit, factor in _UNITS.items():
        digits = text.removesuffix(unit) if unit else text
        if digits.isdigit() and (unit or digits == text):
            return int(digits) * factor
    raise argparse.ArgumentTypeError("write a size such as 512MiB or 1GiB")


async def _serve(args: argparse.Namespace, folder: Path) -> None:
    thread = EngineThread(lambda: _engine(args, folder))
    names = args.served_name or [args.model if args.model == "bundled" else folder.name]
    temperature = ModelConfig.load(folder).temperature
    preparation = Preparation.load(folder, args.tool_format)
    app = Server(thread, preparation, names, temperature)
    sock = _listen(args.listen)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    if args.exit_with_stdin:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _when_closed, server)
    try:
        await server.serve(sockets=[sock])
    finally:
        await preparation.close()
        thread.close()
    if thread.failed is not None:
        raise thread.failed


def _engine(args: argparse.Namespace, folder: Path) -> "Engine":
    """Built in the engine's thread, so that the server answers while torch and weights load."""
    import torch

    from local_backend.engine import Engine
    from local_backend.loader import load

    torch.set_num_threads(args.threads or _threads(folder))
    config = EngineConfig(
        max_seqs=args.max_seqs, max_waiting=args.max_waiting, max_len=args.max_len, kv_memory=args.kv_memory
    )
    return Engine(load(folder, args.dtype, args.quantize), config, compile=compiler_of(folder))


def _threads(folder: Path) -> int:
    """Small models lose more by handing work around than they win by sharing it."""
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return 1 if weights < 64 << 20 else max(1, (os.cpu_count() or 2) // 2)


def _listen(address: str) -> socket.socket:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        sock = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        before = os.umask(0o177)  # the socket is this user's alone from its first moment
        try:
            sock.bind(path)
            sock.listen(512)  # from now on a client waits instead of being refused
        finally:
            os.umask(before)
        return sock
    host, _, port = address.rpartition(":")
    family, kind, number, _, place = socket.getaddrinfo(
        host or "127.0.0.1", int(port), type=socket.SOCK_STREAM
    )[0]
    sock = socket.socket(family, kind, number)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(place)
    return sock


def _when_closed(server: uvicorn.Server) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
