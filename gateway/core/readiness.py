"""Whether a process serves, and what of it is away: what `/health/ready` answers."""

from typing import Literal, TypedDict

Status = Literal["starting", "ready", "draining"]


class Elsewhere(TypedDict):
    """How the other processes of a gateway are."""

    status: Status
    degraded: list[str]  # what is away, by name: it changes no status, for what is left serves on


class Readiness(Elsewhere):
    policies: str  # version of those in force, "" before there are any
