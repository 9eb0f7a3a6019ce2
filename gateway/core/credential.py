"""Credentials that expire: how one is had, and how a request shows it. A source only says what is to be asked;
`upstream.credentials` asks, keeps what came and renews it ahead of time.
"""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.core.address import WireRequest


class StepResult(NamedTuple):
    """What came of one step. A file that can be read is a 200, one that cannot a 404; 0 where no answer came
    (`body` is why)."""

    status: int
    body: bytes


class Command(NamedTuple):
    """A program of the machine's owner, with its arguments in one line. One that ends well is a 200 with what it wrote;
    0 else."""

    line: str


class WriteFile(NamedTuple):
    """A file that is to be written whole, for its owner alone to read. A 200 where it was."""

    path: Path
    content: bytes


class Credential(NamedTuple):
    """`value` is the source's own affair; `seconds` is how long it is good for, None for ever."""

    value: Any
    seconds: float | None = None


class Unobtainable(Exception):
    """There is no credential to be had; the message says why and how to mend it, and holds no secret."""


Step = WireRequest | Path | Command | WriteFile
# Yields steps, is sent the result of each, returns the credential.
Steps = Generator[Step, StepResult, Credential]


class Source(Protocol):
    """Where a provider's credential comes from: a frozen, hashable fact. Equal sources share one credential;
    secrets stay out of `repr`."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def obtain(self, now: float, environ: Mapping[str, str]) -> Steps:
        """`now` is in seconds since the epoch. Raises Unobtainable at any step."""
        ...

    def authorize(self, value: Any, wire: WireRequest, now: float) -> bytes:
        """The header lines that show the credential on this request, each with CRLF. On the hot path: no step
        of it may wait."""
        ...
