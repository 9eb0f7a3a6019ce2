"""Tables on standard output: whole, and in the names' own letters."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

WIDE = 10_000  # letters of a line in a file or a pipe: no name or number is cut short there


def show(
    heads: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] = (), numbers: int = 0
) -> None:
    """The last columns are `numbers`: a narrow terminal folds the names, and these never."""
    every = [*rows, total] if total else list(rows)
    columns = [Column(head, overflow="fold") for head in heads]
    for place in range(len(heads) - numbers, len(heads)):
        columns[place].min_width = max((len(row[place]) for row in every), default=0)
    table = Table(*columns)
    for row in every:
        if row is total:
            table.add_section()
        table.add_row(*map(_plain, row))
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(table, crop=False)


def _plain(cell: str) -> Text:
    """Callers choose some of the names: what looks like markup is none, and nothing steers the terminal."""
    return Text("".join(char if char.isprintable() else "?" for char in cell))
