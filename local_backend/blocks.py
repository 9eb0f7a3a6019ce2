"""The pool of KV blocks: who holds which, which may be taken, and which prompt prefixes are still there.

A freed block keeps its contents and its hash until it is taken again, the longest unused first, so that a
prompt with the same beginning finds its keys and values computed. Hashes are chained and salted per tenant:
a shared cache must be neither a timing channel nor forgeable. Torch-free; every operation is O(1) per block.
"""

import hashlib
from array import array
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

    def take(self, count: int, after: int = 0) -> list[int]:
        """`count` blocks with unknown contents, where it costs nothing the ones that follow `after`: a table
        that is one run of ids is read in place. The caller has asked `free` before."""
        blocks = []
        for _ in range(count):
            after += 1
            if (
                after == 1
                or after >= self.count
                or after not in self._free
                or self._hash_of[after] is not None
            ):
                after = next(iter(self._free))
            del self._free[after]
            self.forget(after)
            self._references[after] = 1
            blocks.append(after)
        return blocks

    def give_back(self, blocks: Sequence[int]) -> None:
        """Last block first: the tail of a prompt dies before the head that others share."""
        for block in reversed(blocks):
            self._references[block] -= 1
            assert self._references[block] >= 0, f"block {block} was given back twice"
            if not self._references[block]:
                self._free[block] = None

    def share(self, blocks: Sequence[int]) -> list[int]:
        """A second table of the same blocks, which none of the holders may write to from now on."""
        for block in blocks:
            assert self._references[block] > 0, f"block {block} is nobody's"
            self._references[block] += 1
        return list(blocks)

    def is_shared(self, block: int) -> bool:
        return self._references[block] > 1

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
        if self._block_of.setdefault(digest, block) == block:
            self._hash_of[block] = digest

    def forget(self, block: int) -> None:
        """The block will hold something else."""
        digest = self._hash_of[block]
        if digest is not None:
            self._hash_of[block] = None
            del self._block_of[digest]

    def check_integrity(self, tables: Sequence[Sequence[int]]) -> None:
        """Raises AssertionError where what the pool believes and what the tables hold differ."""
        held = [0] * self.count
        for table in tables:
            for block in table:
                held[block] += 1
        assert held == self._references, "references differ from the tables"
        assert set(self._free) == {block for block in range(1, self.count) if not held[block]}
        assert {block: digest for digest, block in self._block_of.items()} == {
            block: digest for block, digest in enumerate(self._hash_of) if digest is not None
        }


def root(salt: str) -> bytes:
    """What the first block's hash is chained to: whose it is."""
    return hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest()


def chain(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The hash of a full block: of all tokens up to its end, and of whose they are."""
    return hashlib.sha256(parent + array("I", tokens).tobytes()).digest()
