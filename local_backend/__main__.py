"""`python -m local_backend --model DIR|bundled`: serve one model over OpenAI's HTTP API."""

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import uvloop

from local_backend.client import EngineClient
from local_backend.config import ModelConfig, UnusableModel
from local_backend.encoder_config import EncoderConfig, is_encoder
from local_backend.flags import build_parser, setup_of
from local_backend.front import Front, listen
from local_backend.hub import find
from local_backend.pooling import pooling_of
from local_backend.preparation import Preparation
from local_backend.server import Server


def main() -> int:
    """0: ended in order; 1: the model cannot be served; 2: used wrongly."""
    args = build_parser().parse_args()
    try:
        folder = find(args.model, download=args.download)
        _temperature(folder)  # a folder that cannot be served is told before anything is opened
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(args, folder))
    except (UnusableModel, OSError) as error:
        _log(str(error))
        return 1
    return 0


async def _serve(args: argparse.Namespace, folder: Path) -> None:
    """The engine's process starts first: what the server needs itself is read meanwhile. Raises UnusableModel."""
    sock = listen(args.listen)
    engine = EngineClient(setup_of(args, folder), _log)
    keeping = asyncio.ensure_future(engine.run())
    try:
        preparation = await asyncio.to_thread(Preparation.load, folder, args.tool_format)
        names = args.served_name or [_called(args.model)]
        app = Server(engine, preparation, names, _temperature(folder), pooling_of(folder))
        front = Front(app, engine, args.drain_timeout)
        front.end_when_told(with_stdin=args.exit_with_stdin)
        keeping.add_done_callback(lambda _: front.end())
        await front.serve(sockets=[sock])
        await preparation.close()
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


def _called(model: str) -> str:
    """A hub's name as it is; a folder's is its last part."""
    return Path(model).resolve().name if Path(model).exists() else model


def _temperature(folder: Path) -> float:
    """Where a call says none. Raises UnusableModel for a folder that cannot be served."""
    if is_encoder(folder):
        EncoderConfig.load(folder)
        return 1.0
    return ModelConfig.load(folder).temperature


def _log(line: str) -> None:
    print(f"local_backend: {line}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
