"""Who has which row of the tables that a device keeps from step to step. Torch-free."""

from collections.abc import Iterator

Seat = tuple[int, int]  # a sequence's id, and how many tokens before the last of those that it computes
Change = tuple[int, int]  # where in the tables, row after row, and the block that stands there from now on


class Seats:
    """Each sequence keeps its row while it decodes, so that only what has changed of its table is told anew."""

    def __init__(self, rows: int, width: int) -> None:
        """`width`: blocks of a row."""
        self._width = width
        self._rows: dict[Seat, int] = {}
        self._told: list[list[int]] = [[] for _ in range(rows)]

    def sit(self, seats: list[Seat], most: int) -> list[int]:
        """A row below `most` for each seat, of which there are no more. Who had one keeps it, who is not among them
        loses it."""
        kept = {one: row for one in seats if (row := self._rows.get(one, most)) < most}
        taken = set(kept.values())
        free = (row for row in range(most) if row not in taken)
        self._rows = {one: kept[one] if one in kept else next(free) for one in seats}
        return list(self._rows.values())

    def tell(self, row: int, table: list[int]) -> Iterator[Change]:
        """What a row has to be told for it to hold this table: mostly nothing, or the block that was added."""
        told = self._told[row]
        if told == table:
            return
        first = len(told) if table[: len(told)] == told else 0
        self._told[row] = list(table)
        for place in range(first, len(table)):
            yield row * self._width + place, table[place]


def paddings(most: int) -> list[int]:
    """Rows that a batch may have, so that few sizes are prepared and little is computed for nothing."""
    return [one for one in (1, 2, 4, *range(8, 64, 8), *range(64, most, 16)) if one < most] + [most]
