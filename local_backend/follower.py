"""One rank's process that follows: it computes what the leader says, on its share of the model, and draws nothing. Its
standard input is the line to the leader; when that is closed the process ends, whatever it is at."""

import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NamedTuple, cast

import torch

from local_backend import devices, frames, machine
from local_backend.attention import Batch
from local_backend.cache import Cache, cache_dtype
from local_backend.config import UnusableModel
from local_backend.loader import load
from local_backend.model import Decoder
from local_backend.share import Share
from local_backend.team import UNUSABLE, Rank
from local_backend.types import Piece, Sequence


class Unread(list[int]):
    """Tokens that come by another way, in any number."""

    def __getitem__(self, at: "slice") -> list[int]:  # type: ignore[override]
        return [0] * (at.stop - at.start)


class Told(NamedTuple):
    """What a batch asks of a sequence, as far as the leader says it."""

    table: list[int]
    known: int
    tokens: list[int] = Unread()
    id: int = 0


def follow(inbox: "queue.SimpleQueue[frames.Message]") -> None:
    """Until the process ends. Raises UnusableModel, as the leader does for the same folder."""
    _, raw, number, store = inbox.get()
    setup = frames.setup_of(raw)
    torch.set_num_threads(setup.threads or max(1, machine.cores() // setup.ranks))
    device = devices.take(setup.device, setup.ranks, number)
    rank = Rank(Share(number, setup.ranks), Path(store), device)
    model = load(Path(setup.folder), setup.dtype, setup.quantize, rank.share, rank.join, device)
    rank.meet()
    rank.least(devices.available_memory(device))
    _, blocks, block_size = inbox.get()
    dtype = cache_dtype(model.embed, setup.config.kv_cache_dtype)
    cache = Cache(model.config, blocks, block_size, dtype, model.embed.weight.device)
    while True:
        _, copies, pieces = inbox.get()
        compute(model, cache, rank, copies, pieces)


@torch.inference_mode()
def compute(
    model: Decoder,
    cache: Cache,
    rank: Rank,
    copies: list[tuple[int, int]],
    told: list[tuple[list[int], int, int]],
) -> None:
    """One step: blocks to be copied, and of each piece its table, start and size."""
    if copies:
        cache.copy(copies)
    pieces = [Piece(cast(Sequence, Told(table, start + size)), start, size) for table, start, size in told]
    batch = Batch(pieces, cache)
    rank.same(batch.ids)
    model(batch.ids, batch.positions, batch.attend)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the leader decides when its followers end
    inbox: queue.SimpleQueue[frames.Message] = queue.SimpleQueue()

    def read() -> None:
        with socket.socket(fileno=os.dup(sys.stdin.fileno())).makefile("rb") as line:
            for message in frames.messages(line):
                inbox.put(message)
        os._exit(0)

    threading.Thread(target=read, name="line", daemon=True).start()
    try:
        follow(inbox)
    except UnusableModel:
        sys.exit(UNUSABLE)


if __name__ == "__main__":
    main()
