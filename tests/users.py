"""Rights, for tests that root may run, who has them all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOBODY = 65534


@contextmanager
def ordinary() -> Iterator[None]:
    """An ordinary user for a while, who may not be able to load what is not loaded yet."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """That anybody may look into: pytest's own are this user's alone."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def only_read(folder: Path) -> Iterator[None]:
    """By an ordinary user, who may do no more in there."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    with ordinary():
        yield
