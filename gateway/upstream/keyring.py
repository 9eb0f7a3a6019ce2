"""Which of a provider's several keys is shown first."""

from collections.abc import Callable, Sequence

from gateway.upstream.breaker import LONGEST_REST, MOST_PASSED

REFUSED = 30.0  # seconds for which a key that was refused is not shown first

_ONE = (0,)


class Keyring:
    """Keys of a provider take turns; one that was throttled or refused for a model comes behind the others until its
    time there is over. Keys are known by their places in the policy alone. All are well again when callers have
    invented too many models."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turns: dict[str, int] = {}  # by provider: calls put to it so far
        self._rests: dict[tuple[str, int], float] = {}  # until when, by provider/model and key

    def order(self, provider: str, asked: str, keys: int) -> Sequence[int]:
        """In which the keys are shown to it, each once."""
        if keys == 1:
            return _ONE
        turn = self._turns[provider] = self._turns.get(provider, 0) + 1
        ring = [(turn + place) % keys for place in range(keys)]
        if self._rests:
            now, rests = self._clock(), self._rests
            ring.sort(key=lambda key: rests.get((asked, key), now) > now)
        return ring

    def rest(self, asked: str, key: int, seconds: float) -> None:
        """For so long, unless it has longer to rest already."""
        if len(self._rests) >= MOST_PASSED:
            self._rests.clear()
        until = self._clock() + min(seconds, LONGEST_REST)
        self._rests[asked, key] = max(until, self._rests.get((asked, key), 0.0))
