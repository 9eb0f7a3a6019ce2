"""Parts of a streamed answer that wait until what is open before them is whole."""

from collections import deque
from collections.abc import Callable
from functools import partial

Part = Callable[..., list[bytes]]


class PartQueue:
    """Parts are told in the order in which they came. `may` says whether nothing that is open holds up the next."""

    def __init__(self, may: Callable[[], bool]) -> None:
        self._may = may
        self._parts: deque[Callable[[], list[bytes]]] = deque()

    def tell(self, part: Part, *words: object) -> list[bytes]:
        """At once where that may be."""
        if not self._parts and self._may():
            return part(*words)
        self.keep(part, *words)
        return self.proceed()

    def keep(self, part: Part, *words: object) -> None:
        self._parts.append(partial(part, *words))

    def proceed(self) -> list[bytes]:
        """What may be told by now."""
        out: list[bytes] = []
        while self._parts and self._may():
            out += self._parts.popleft()()
        return out

    def rest(self) -> list[bytes]:
        """At the end all of it, whatever is open."""
        out: list[bytes] = []
        while self._parts:
            out += self._parts.popleft()()
        return out
