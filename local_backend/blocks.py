"""The pool of KV blocks: who holds which, which may be taken, and which prompt prefixes are still there.

A freed block keeps its contents and its hash until it is taken again, the longest unused first, so that a
prompt with the same beginning finds its keys and values computed. Hashes are chained and salted per tenant:
a shared cache must be neither a timing channel nor forgeable.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """Block 0 is nobody's: padding is written there."""

    def __init__(self, count: int, block_size: int) -> None:
        self.count, self.block_size = count, block_size
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(1, count))
        self._references = [0] * count
        self._hash_of: list[bytes | None] = [None] * count
        self._block_of: dict[bytes, int] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.count - 1 - len(self._free)

    def take(self, count: int) -> list[int]:
        """`count` blocks with unknown contents. The caller has asked `free` before."""
        blocks = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            old = self._hash_of[block]
            if old is not None:
                self._hash_of[block] = None
                if self._block_of.get(old) == block:
                    del self._block_of[old]
            self._references[block] = 1
            blocks.append(block)
        return blocks

    def give_back(self, blocks: Sequence[int]) -> None:
        """Last block first: the tail of a prompt dies before the head that others share."""
        for block in reversed(blocks):
            self._references[block] -= 1
            assert self._references[block] >= 0, f"block {block} was given back twice"
            if not self._references[block]:
                self._free[block] = None

    def match(self, hashes: Sequence[bytes]) -> list[int]:
        """The longest run of blocks that hold this prefix, now held by the caller too."""
        found = []
        for digest in hashes:
            block = self._block_of.get(digest)
            if block is None:
                break
            if not self._references[block]:
                del self._free[block]
            self._references[block] += 1
            found.append(block)
        return found

    def publish(self, block: int, digest: bytes) -> None:
        """This full block holds the prefix `digest`; blocks are never merged, so tables stay as they are."""
        self._hash_of[block] = digest
        self._block_of.setdefault(digest, block)

    def check_integrity(self, tables: Sequence[Sequence[int]]) -> None:
        """Raises AssertionError where what the pool believes and what the tables hold differ."""
        held = [0] * self.count
        for table in tables:
            for block in table:
                held[block] += 1
        assert held == self._references, "references differ from the tables"
        assert set(self._free) == {block for block in range(1, self.count) if not held[block]}
        for digest, block in self._block_of.items():
            assert self._hash_of[block] == digest


def chain(parent: bytes, tokens: Sequence[int], salt: str) -> bytes:
    """The hash of a full block: of all tokens up to its end, and of whose they are."""
    digest = hashlib.sha256(parent or salt.encode())
    digest.update(b"".join(token.to_bytes(4, "little") for token in tokens))
    return digest.digest()
