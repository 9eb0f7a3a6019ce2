"""What was last said over one connection: turns that are not to be stored may be gone on from while it is open."""

from typing import Any, NamedTuple

import orjson

from gateway.wire.responses.words import OURS


class Turn(NamedTuple):
    """`items` is the JSON list of what was asked and answered, `previous` the id of the response before it."""

    previous: str | None
    items: bytes


class Quota:
    """Bytes that all connections of a process may remember, and do."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0


class Recent:
    """By the id of the response. Of more than `most` bytes, or than the quota holds, the oldest are forgotten."""

    def __init__(self, most: int, quota: Quota) -> None:
        self._most, self._size, self._quota = most, 0, quota
        self._turns: dict[str, Turn] = {}

    def keep(self, response: dict[str, Any], asked: list[Any], previous: str | None) -> None:
        told = response["output"]
        if not response["id"].startswith(OURS):
            told = [bare for item in told if (bare := _bare(item))]
        turn = self._turns[response["id"]] = Turn(previous, orjson.dumps([*asked, *told]))
        self._take(len(turn.items))
        while self._turns and (self._size > self._most or self._quota.used > self._quota.most):
            self.forget(next(iter(self._turns)))

    def before(self, id: Any) -> tuple[list[Any], Any]:
        """The items of the turns that this response ends, and what they go on from: an id that is not known here,
        or None."""
        items: list[Any] = []
        while isinstance(id, str) and (turn := self._turns.get(id)):
            items[:0] = orjson.loads(turn.items)
            id = turn.previous
        return items, id

    def forget(self, id: str) -> None:
        if turn := self._turns.pop(id, None):
            self._take(-len(turn.items))

    def clear(self) -> None:
        self._turns.clear()
        self._take(-self._size)

    def _take(self, size: int) -> None:
        self._size += size
        self._quota.used += size


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a provider's as it takes it back: not by an id that it keeps nothing under; {} for thoughts that it
    did not encrypt."""
    if item.get("type") == "reasoning" and not item.get("encrypted_content"):
        return {}
    return {name: value for name, value in item.items() if name != "id"}
