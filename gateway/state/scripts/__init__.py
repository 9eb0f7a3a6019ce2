"""The Lua that runs inside Redis: one file per step of a call, and the bucket they share."""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    text: bytes
    sha: str  # what EVALSHA calls it


def load(*names: str) -> Script:
    """The texts of these files, one after the other, as one script."""
    text = b"\n".join(files(__name__).joinpath(f"{name}.lua").read_bytes() for name in names)
    return Script(text, sha_of(text))


def sha_of(text: bytes) -> str:
    return sha1(text, usedforsecurity=False).hexdigest()
