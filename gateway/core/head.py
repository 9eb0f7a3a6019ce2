"""The headers of a request by name, and beside them what was found in them."""

from collections.abc import Iterable, Mapping

from gateway.core.exchange import Headers


class Head(dict[bytes, bytes]):
    """Names are in lower case. A client that keeps its connection says the same head before each of its calls: what
    follows from it alone is found once."""

    __slots__ = ("digest", "forward")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] | Mapping[bytes, bytes]) -> None:
        super().__init__(headers)
        self.digest = ""  # SHA-256 of the key that it shows; "" until that was looked for
        self.forward: Headers = ()  # what of it goes on to the provider; empty until that was looked for

    def resized(self, length: bytes) -> "Head":
        """The same head before a body of another length, which nothing of that depends on."""
        other = Head(self)
        other[b"content-length"] = length
        other.digest, other.forward = self.digest, self.forward
        return other
