"""The program of the local backend with weights made up by their names: `python -m loadtests.engine.serving`. Both
processes are the real ones, but for where the weights come from, and for options that the real one has not."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from local_backend.client import EngineClient, Process
from local_backend.front import Front, listen
from local_backend.options import EngineConfig, Setup
from local_backend.preparation import Preparation
from local_backend.server import Server
from local_backend.worker import Tell, Worker


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", action="store_true", help="be the engine at the end of a line")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-seqs", type=int, default=64)
    parser.add_argument("--max-len", type=int)
    parser.add_argument("--kv-memory", type=int, default=1 << 30)
    parser.add_argument("--step-tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.worker:
        _work(args.device)
    else:
        asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    config = EngineConfig(
        block_size=32 if args.device == "cuda" else 16, step_tokens=args.step_tokens, max_seqs=args.max_seqs,
        max_waiting=args.max_seqs, max_len=args.max_len, kv_memory=args.kv_memory, overlap=args.device == "cuda",
    )  # fmt: skip
    setup = Setup(str(args.model), args.dtype, threads=args.threads, kv_memory=args.kv_memory, config=config)

    async def spawn(line: socket.socket) -> Process:
        command = (sys.executable, "-m", "loadtests.engine.serving", "--worker", "--device", args.device)
        try:
            return await asyncio.create_subprocess_exec(*command, stdin=line.fileno())
        finally:
            line.close()

    sock = listen(args.listen)
    engine = EngineClient(setup, lambda text: print(text, file=sys.stderr), spawn)
    keeping = asyncio.ensure_future(engine.run())
    try:
        preparation = await asyncio.to_thread(Preparation.load, args.model)
        front = Front(Server(engine, preparation, ["made-up"], 1.0), engine, drain=1.0)
        front.end_when_told(with_stdin=False)
        keeping.add_done_callback(lambda _: front.end())
        await front.serve(sockets=[sock])
        await preparation.close()
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


def _work(device: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    import torch

    from loadtests.engine.shapes import Random
    from local_backend.config import ModelConfig
    from local_backend.engine import Engine
    from local_backend.loader import DTYPES, build

    def make(setup: Setup, tell: Tell) -> Engine:
        torch.set_num_threads(setup.threads)
        dtype = DTYPES[setup.dtype]
        source = Random(torch.device(device), dtype)
        engine = Engine(build(ModelConfig.load(Path(setup.folder)), source, dtype), setup.config)
        engine.warm(tell)
        return engine

    Worker(socket.socket(fileno=sys.stdin.fileno()), make, lambda: os._exit(0)).run()


if __name__ == "__main__":
    sys.exit(main())
