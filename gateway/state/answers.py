"""Responses that were made here, kept for their team: what `store`, `previous_response_id` and retrieval need
where the provider behind a model keeps none. Conversations are chains of rows, each with its own turn alone."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gateway.state.database import Database, is_id
from gateway.state.fault import DatabaseFault
from gateway.state.threads import InThread

if TYPE_CHECKING:
    from gateway.state.rows.answers import AnswerRows

DAY = 86400.0  # seconds
LONGEST = 64  # characters of an id: ours are shorter


class Kept(NamedTuple):
    """One turn. `input` is the JSON list of its items, `response` the JSON object as it was told."""

    id: str
    team: str
    previous: str | None
    input: bytes
    response: bytes


class NotKept(Exception):
    """The database did not take an answer."""


class Answers:
    """All SQL runs in a thread. To another team an answer is not there. Raises DatabaseFault."""

    def __init__(
        self,
        database: Database,
        wall_clock: Callable[[], float],
        retention_days: int,
        max_size: int,
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        def rows() -> "AnswerRows":
            from gateway.state.rows.answers import AnswerRows

            return AnswerRows(database.engine)

        self._database, self._now, self._in_thread = database, wall_clock, in_thread
        self._days, self._max_size = retention_days, max_size
        self._next: tuple[list[Kept], asyncio.Future[None]] | None = None  # what is written in the next turn
        self._turn = asyncio.Lock()
        self._rows = database.later(rows)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._days > 0

    async def keep(self, kept: Kept) -> None:
        """Returns once every worker can read it. All that come while others are written are written together, and
        whoever waits no longer takes none of them along. Raises NotKept."""
        if self._next is None:
            rows: list[Kept] = []
            self._next = rows, asyncio.ensure_future(self._write_all(rows))
        rows, written = self._next
        rows.append(kept)
        await asyncio.shield(written)

    async def change(self, id: str, team: str, response: bytes, more: int = 0) -> None:
        """What is told of an answer now; none where it is gone. `more` bytes belong to it, too. Raises NotKept."""
        try:
            await self._in_thread(lambda: self._rows().change(id, team, response, more))
        except DatabaseFault as error:
            raise NotKept(error.kind) from error

    async def conversation(self, id: str, team: str) -> list[Kept]:
        """The answer and what it goes on from, the oldest first; none where it is not the team's."""
        if not is_id(id, LONGEST):
            return []
        turns = await self._in_thread(lambda: self._rows().conversation(id, team, self._oldest()))
        return [Kept(*turn) for turn in turns]

    async def find(self, id: str, team: str) -> Kept | None:
        if not is_id(id, LONGEST):
            return None
        found = await self._in_thread(lambda: self._rows().read(id, team, self._oldest()))
        return Kept(*found[0]) if found else None

    async def forget(self, id: str, team: str) -> None:
        await self._in_thread(lambda: self._rows().delete(id, team))

    def sweep(self) -> None:
        """Remove what is too old, then the oldest of what is too much."""
        if self._database.has("answers"):
            self._rows().sweep(self._oldest(), self._max_size)

    def _oldest(self) -> float:
        return self._now() - self._days * DAY

    async def _write_all(self, rows: list[Kept]) -> None:
        async with self._turn:
            self._next = None
            try:
                await self._in_thread(self._write, rows)
            except DatabaseFault as error:
                raise NotKept(error.kind) from error

    def _write(self, rows: list[Kept]) -> None:
        self._rows().write(rows, self._now())
