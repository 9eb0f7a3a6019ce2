"""How many bytes of request bodies are held at once: each is bounded by itself, and so are all together."""

from collections import Counter

from gateway.core.failure import Overloaded

SHARE_OF_TEAM = 1 / 2  # of all: one that sends many large bodies leaves room to the others


class Bodies:
    """Of one process. Whoever holds some lets go of them, whatever happens."""

    def __init__(self, most: int, largest: int) -> None:
        """In bytes; a body of the `largest` size has room where no other is."""
        self._most, self._of_team = max(most, largest), max(int(most * SHARE_OF_TEAM), largest)
        self._held: Counter[str] = Counter()

    def hold(self, team: str, size: int) -> None:
        """Raises Overloaded where there is no room for so many bytes more."""
        if self._held.total() + size > self._most or self._held[team] + size > self._of_team:
            raise Overloaded("the gateway holds as many bytes of bodies as it may; try again in a second")
        self._held[team] += size

    def let_go(self, team: str, size: int) -> None:
        self._held[team] -= size
        if not self._held[team]:
            del self._held[team]
