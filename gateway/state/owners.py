"""Which team owns an object that a provider made: files, batches, responses, stored completions and the like."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.state.database import Database, is_id
from gateway.state.fault import DatabaseFault
from gateway.state.threads import InThread

if TYPE_CHECKING:
    from gateway.state.rows.owners import OwnerRows

REMEMBERED = 10_000  # owners kept in memory; the rest is asked of SQL
LONGEST = 256  # characters of an id; a longer one is nobody's


class Owner(NamedTuple):
    team: str
    provider: str


class Owners:
    """All SQL runs in a thread. An id belongs to whoever it was remembered for first. Raises DatabaseFault."""

    def __init__(
        self, database: Database, wall_clock: Callable[[], float], in_thread: InThread = asyncio.to_thread
    ) -> None:
        def rows() -> "OwnerRows":
            from gateway.state.rows.owners import OwnerRows

            return OwnerRows(database.engine, wall_clock)

        self._in_thread, self._rows = in_thread, database.later(rows)
        self._known: OrderedDict[str, Owner] = OrderedDict()

    async def remember(self, ids: Sequence[str], owner: Owner, kind: str, charged: int | None = None) -> None:
        """Returns once it is durable: a client may use an id as soon as it sees it. `charged`: it is only begun, and
        was charged so many tokens before it told what it takes."""
        new = [one for one in dict.fromkeys(ids) if one not in self._known and is_id(one, LONGEST)]
        if new:
            self._keep(await self._in_thread(self._write, new, owner, kind, charged))

    async def among(self, ids: Sequence[str]) -> dict[str, Owner]:
        """The owners of those that are known, by id."""
        found = {one: owner for one in ids if (owner := self._known.get(one)) is not None}
        asked = [one for one in dict.fromkeys(ids) if one not in found and is_id(one, LONGEST)]
        if asked:
            read = await self._in_thread(self._read, asked)
            self._keep(read)
            found |= read
        return found

    async def forget(self, id: str) -> None:
        """The object is deleted."""
        self._known.pop(id, None)
        if is_id(id, LONGEST):
            await self._in_thread(lambda: self._rows().delete(id))

    async def settle(self, ids: Sequence[str]) -> int | None:
        """What was charged for one of these that was only begun so far: it has told now what it took, and is charged
        the rest once. None where all is charged; while SQL is away, too: it stays begun."""
        try:
            known = [one for one in ids if is_id(one, LONGEST)]
            return await self._in_thread(lambda: self._rows().settle(known)) if known else None
        except DatabaseFault:
            return None

    def _keep(self, owners: Mapping[str, Owner]) -> None:
        self._known |= owners
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _write(self, ids: Sequence[str], owner: Owner, kind: str, charged: int | None) -> dict[str, Owner]:
        """Who owns them now."""
        written = self._rows().write(ids, owner.team, owner.provider, kind, charged)
        return {one: Owner(*found) for one, found in written.items()}

    def _read(self, ids: Sequence[str]) -> dict[str, Owner]:
        return {one: Owner(*found) for one, found in self._rows().read(ids).items()}
