"""A JSON array that comes in pieces: cut behind its whole elements, and behind its end."""

import re

from gateway.wire.sse import MOST_EVENT, EventTooLarge

# A bracket, or a text: as far as it is there.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("|\\?\Z)|[{}\[\]]', re.DOTALL)


class ArraySplitter:
    """Feed it chunks of any size; it returns what came up to the end of the last whole element, or of the array, which
    has `ended` then."""

    __slots__ = ("_depth", "_rest", "_searched", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._rest = bytearray()
        self._searched = 0  # up to here the tokens are known
        self._depth = 0

    def feed(self, chunk: bytes) -> bytes:
        """b"" while the first element is still incomplete. Raises EventTooLarge."""
        rest, cut = self._rest, 0
        rest += chunk
        for token in _TOKEN.finditer(rest, self._searched):
            first = rest[token.start()]
            if first == 0x22 and token[1] != b'"':
                self._searched = token.start()  # its end has not come: it is looked at again
                break
            if first in b"{[":
                self._depth += 1
            elif first in b"}]":
                self._depth -= 1
                if self._depth <= 1 and not self.ended:
                    cut = token.end()
                    self.ended = self._depth == 0
            self._searched = token.end()
        else:
            self._searched = len(rest)
        if not cut:
            if len(rest) > MOST_EVENT:
                raise EventTooLarge(f"an element of more than {MOST_EVENT >> 20} MiB")
            return b""
        block = bytes(rest[:cut])
        del rest[:cut]
        self._searched -= cut
        return block

    def rest(self) -> bytes:
        """What stands behind the last whole element, or the end."""
        return bytes(self._rest)
