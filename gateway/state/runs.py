"""Responses that are made in the background: who may still end them, whether their process lives, and what they have
told so far. Any worker can read it; the answer itself lies with the other answers."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from gateway.state.answers import NotKept
from gateway.state.database import Database
from gateway.state.fault import DatabaseFault
from gateway.state.threads import InThread

if TYPE_CHECKING:
    from gateway.state.rows.runs import RunRows

LOST_AFTER = 60.0  # seconds without a sign of life after which the process of a run is taken for dead

Told = Mapping[str, tuple[int, bytes]]  # by run: the number of the first event, and events as they are sent


class Sign(NamedTuple):
    """Of a run: whether its process lives, and whether it tells its events."""

    lives: bool
    streams: bool


class Runs:
    """All SQL runs in a thread. Whose an id is, is asked elsewhere."""

    def __init__(
        self, database: Database, wall_clock: Callable[[], float], in_thread: InThread = asyncio.to_thread
    ) -> None:
        def rows() -> "RunRows":
            from gateway.state.rows.runs import RunRows

            return RunRows(database.engine)

        self._database, self._now, self._in_thread = database, wall_clock, in_thread
        self._rows = database.later(rows)

    async def begin(self, id: str, *, streams: bool) -> None:
        """Raises NotKept."""
        with _keeping():
            await self._in_thread(lambda: self._rows().insert(id, self._now(), streams=streams))

    async def beat(self, ids: Sequence[str], told: Told) -> set[str]:
        """Note that these are alive and what they told; returns those that are to end. Raises NotKept."""
        with _keeping():
            return await self._in_thread(lambda: self._rows().beat(list(ids), told, self._now()))

    async def end(self, id: str) -> None:
        """Ask whoever runs it to end it. Raises NotKept."""
        with _keeping():
            await self._in_thread(lambda: self._rows().end(id))

    async def forget(self, id: str) -> None:
        """A run that is under way ends, too. Raises NotKept."""
        with _keeping():
            await self._in_thread(lambda: self._rows().delete(id))

    async def look(self, id: str) -> Sign | None:
        """None where no run is known by this id. Raises DatabaseFault."""
        found = await self._in_thread(lambda: self._rows().look(id))
        return Sign(found[0] > self._now() - LOST_AFTER, found[1]) if found else None

    async def told(self, id: str, since: int) -> list[tuple[int, bytes]]:
        """Pieces that hold events from number `since` on, in their order, each with the number of its first. Raises
        DatabaseFault."""
        return await self._in_thread(lambda: self._rows().told(id, since))

    def sweep(self) -> None:
        """Remove what no answer belongs to any more."""
        if self._database.has("runs") and self._database.has("answers"):
            self._rows().sweep(self._now() - LOST_AFTER)


@contextmanager
def _keeping() -> Iterator[None]:
    """Raises NotKept."""
    try:
        yield
    except DatabaseFault as error:
        raise NotKept(error.kind) from error
