"""An engine without torch for the tests of what is around it: every step adds the next number to each sequence.
Run as a program it is a worker's process: `python -m tests.local_backend.puppet`."""

import asyncio
import os
import signal
import socket
import sys
import time

from local_backend import worker
from local_backend.client import Process
from local_backend.config import UnusableModel
from local_backend.metrics import Metrics
from local_backend.options import Setup
from local_backend.types import BadJob, Deliver, Delta, Finish, Full, Job, Logprob, Sequence
from local_backend.worker import Tell, Worker

FIRST = 33  # of the ids it says: letters in the bundled vocabulary
# A prompt's first token says what becomes of it. HELD: one token, and the others once the process gets SIGUSR1.
CRASH, FULL, BAD, HELD = 9001, 9002, 9003, 9004


class Puppet:
    """What `Worker` uses of an engine."""

    goes_on = False

    def __init__(self, setup: Setup, tell: Tell = lambda how_far: None) -> None:
        if setup.folder == "heavy":
            worker.EVERY = 0.0
            tell("half of it is read")
        if setup.folder == "unusable":
            raise UnusableModel("unusable: there is nothing in it")
        if setup.folder == "broken":
            raise MemoryError("too large")
        self.max_len = setup.config.max_len or 100
        self.metrics = Metrics()
        self.sequences: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.sequences)

    def add(self, job: Job, deliver: Deliver) -> list[Sequence]:
        if job.tokens[0] == FULL:
            raise Full("7 requests are waiting already", 7)
        if job.tokens[0] == BAD:
            raise BadJob("there is no token 9003")
        limit = len(job.tokens) + job.sampling.max_tokens
        found = [
            Sequence(choice, list(job.tokens), len(job.tokens), limit, job.sampling, deliver)
            for choice in range(job.choices)
        ]
        self.sequences += found
        return found

    def abort(self, sequence: Sequence) -> None:
        self.sequences.remove(sequence)
        self.metrics.aborts += 1
        sequence.deliver(sequence.id, Delta((), Finish.ABORT, 0))

    def step(self) -> None:
        self.metrics.steps += 1
        self.metrics.first_token.observe(0.001)
        time.sleep(0.001)  # a model computes; the server gets its turn
        for sequence in list(self.sequences):
            if sequence.tokens[0] == CRASH:
                raise RuntimeError("the puppet's strings are cut")
            if sequence.tokens[0] == HELD and len(sequence.tokens) > sequence.prompt and not self.goes_on:
                continue
            sequence.tokens.append(FIRST + len(sequence.tokens) % 50)
            finish = Finish.LENGTH if len(sequence.tokens) >= sequence.limit else None
            if finish:
                self.sequences.remove(sequence)
            scored = () if sequence.sampling.logprobs is None else (Logprob(-0.5, ((1, float("-inf")),)),)
            sequence.deliver(sequence.id, Delta((sequence.tokens[-1],), finish, 0, scored))

    def close(self) -> None:
        pass


async def start(line: socket.socket) -> Process:
    """As `client.spawn` does, with a puppet in the engine's place."""
    try:
        return await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, stdin=line.fileno())
    finally:
        line.close()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda number, frame: setattr(Puppet, "goes_on", True))
    try:
        Worker(socket.socket(fileno=sys.stdin.fileno()), Puppet, lambda: os._exit(0)).run()  # type: ignore[arg-type]
    except UnusableModel:
        sys.exit(1)
