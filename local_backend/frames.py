"""What the server and the engine's process say to each other: JSON behind four bytes of its length. Torch-free.

server -> engine    load setup | add call job | abort call choice | ping
engine -> server    ready max_len | unusable why | refused call why seconds | deltas [[call choice delta] …]
                    pong metrics
"""

from asyncio import IncompleteReadError, StreamReader
from collections.abc import Iterator
from io import BufferedIOBase
from math import inf
from typing import Any

import orjson

from local_backend.metrics import Histogram, Metrics
from local_backend.options import EngineConfig, Setup
from local_backend.types import Delta, Finish, Job, Logprob, Sampling

Message = list[Any]  # its kind, and what belongs to it


def pack(kind: str, *words: Any) -> bytes:
    """A message as it travels. Tuples with names and sets become lists: who reads them knows what they were."""
    body = orjson.dumps([kind, *words], default=list)
    return len(body).to_bytes(4, "big") + body


async def receive(reader: StreamReader) -> Message | None:
    """The next message; None where the other side has gone, in the middle of one or not."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        return _message(await reader.readexactly(size))
    except (IncompleteReadError, ConnectionError):
        return None


def messages(file: BufferedIOBase) -> Iterator[Message]:
    """What comes, until the other side has gone, in order or not."""
    try:
        while len(head := file.read(4)) == 4:
            size = int.from_bytes(head, "big")
            body = file.read(size)
            if len(body) < size:
                return
            yield _message(body)
    except ConnectionError:
        return


def setup_of(raw: dict[str, Any]) -> Setup:
    return Setup(**{**raw, "config": EngineConfig(**raw["config"])})


def job_of(raw: dict[str, Any]) -> Job:
    asked = raw["sampling"]
    sampling = {
        **asked,
        "logit_bias": tuple((token, value) for token, value in asked["logit_bias"]),
        "stop_ids": frozenset(asked["stop_ids"]),
    }
    return Job(**{**raw, "sampling": Sampling(**sampling)})


def delta_of(raw: Message) -> Delta:
    ids, finish, cached, logprobs, vector = raw
    scored = tuple(_logprob(drawn, likeliest) for drawn, likeliest in logprobs)
    return Delta(tuple(ids), None if finish is None else Finish(finish), cached, scored, tuple(vector))


def metrics_of(raw: dict[str, Any]) -> Metrics:
    known: dict[str, Any] = {
        name: Histogram(**found) if _is_histogram(found) else found for name, found in raw.items()
    }
    return Metrics(**known)


def _message(body: bytes) -> Message:
    found: Message = orjson.loads(body)
    return found


def _logprob(drawn: float | None, likeliest: list[tuple[int, float | None]]) -> Logprob:
    """JSON has no infinity: null is the logarithm of 0."""
    return Logprob(_known(drawn), tuple((token, _known(value)) for token, value in likeliest))


def _known(value: float | None) -> float:
    return -inf if value is None else value


def _is_histogram(found: Any) -> bool:
    return isinstance(found, dict) and "bounds" in found
