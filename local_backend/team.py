"""Several processes that compute one model together, each with its share of it: this one leads, the others follow. The
leader plans and draws; before each step it tells the followers what is to be computed, and what their layers find adds
up in `join`. One that dies takes the others with it: who started the leader starts it again.

Tensors travel by torch.distributed, by NCCL between GPUs and by gloo elsewhere; what is to be done travels by a line
of frames to each follower, whose end is that follower's end."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from local_backend import frames
from local_backend.options import Setup
from local_backend.share import Share

# For ranks that load their weights; a step waits as long for one that is stuck.
PATIENCE = timedelta(minutes=10)
# How a follower ends that cannot take its share. Its leader has the same folder, and GRACE seconds to say why.
UNUSABLE, GRACE = 3, 10.0
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


class Rank:
    """One of several processes, known to the others. `store` is a file that all of them can write."""

    def __init__(self, share: Share, store: Path, device: torch.device) -> None:
        self.share, self._device = share, device
        if device.type == "cpu":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)  # all of them are on this machine
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=store.as_uri(), rank=share.rank, world_size=share.ranks, timeout=PATIENCE,
        )  # fmt: skip

    def join(self, x: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        distributed.all_reduce(x)
        return x

    def same(self, x: Tensor) -> None:
        """What the leader has, in place."""
        distributed.broadcast(x, 0)

    def meet(self) -> None:
        """Wait until all ranks are here."""
        distributed.barrier()

    def least(self, value: int) -> int:
        """The smallest that a rank has."""
        found = torch.tensor(value, device=self._device)
        distributed.all_reduce(found, distributed.ReduceOp.MIN)
        return int(found)

    def leave(self) -> None:
        distributed.destroy_process_group()


class Team(Rank):
    """The leader's side."""

    def __init__(self, setup: Setup, device: torch.device) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gatehouse-ranks-")
        store, self._closing = Path(self._folder.name) / "store", False
        self._lines: list[socket.socket] = []
        for rank in range(1, setup.ranks):
            mine, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-m", "local_backend.follower"]
                process = subprocess.Popen(command, stdin=theirs.fileno())
            threading.Thread(
                target=self._watch, args=(process, rank), name=f"rank {rank}", daemon=True
            ).start()
            mine.sendall(frames.pack("follow", setup, rank, str(store)))
            self._lines.append(mine)
        super().__init__(Share(0, setup.ranks), store, device)

    def meet(self) -> None:
        """All have found one another by then: the store has served."""
        super().meet()
        self._folder.cleanup()

    def tell(self, kind: str, *words: Any) -> None:
        frame = frames.pack(kind, *words)
        for line in self._lines:
            with suppress(BrokenPipeError, ConnectionResetError):  # the watch sees that as well
                line.sendall(frame)

    def close(self) -> None:
        self._closing = True
        for line in self._lines:
            line.close()
        self.leave()

    def _watch(self, process: "subprocess.Popen[bytes]", rank: int) -> None:
        """What is computed waits for every rank: without one of them there is no going on."""
        ended = process.wait()
        if ended == UNUSABLE:
            time.sleep(GRACE)
        if not self._closing:
            sys.stderr.write(f"rank {rank} of the engine has ended ({ended})\n")
            os._exit(1)
