"""Who may use an object a provider made: the team it was made for, nobody else; to others it is not there."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import orjson

from gateway.core.failure import NotFound
from gateway.state.owners import Owner
from gateway.wire import sse

# Where bodies name objects that must belong to the caller's team.
_REFERENCES = (
    "previous_response_id", "conversation", "input_file_id", "training_file", "validation_file", "file_id",
    "file_ids", "vector_store_ids", "vector_store_id", "container", "assistant_id", "thread_id",
)  # fmt: skip
_MINTED = ("id", "output_file_id", "error_file_id", "file_id", "vector_store_id")
DEEPEST = 12  # levels of a body that are searched for references
_AUTOMATIC = ("auto",)


class Owners(Protocol):
    async def remember(self, ids: Sequence[str], owner: Owner, kind: str) -> None: ...

    async def owner(self, id: str) -> Owner | None: ...

    async def forget(self, id: str) -> None: ...


class Ownership:
    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def provider_of(self, id: str, team: str) -> str:
        """The provider that made this object. Raises NotFound for one that is unknown or another team's: the
        two look alike."""
        owner = await self._owners.owner(id)
        if owner is None or owner.team != team:
            raise NotFound(f"there is no object {id[:100]!r} here", code="not_found")
        return owner.provider

    async def remember(self, ids: Iterable[str], team: str, provider: str, kind: str) -> None:
        await self._owners.remember(list(ids), Owner(team, provider), kind)

    async def forget(self, id: str) -> None:
        await self._owners.forget(id)

    async def own(self, data: list[Any], team: str) -> list[Any]:
        """Those of a list that are this team's."""
        found = []
        for one in data:
            owner = (
                await self._owners.owner(one["id"])
                if isinstance(one, dict) and isinstance(one.get("id"), str)
                else None
            )
            if owner is not None and owner.team == team:
                found.append(one)
        return found


def references(payload: Any, depth: int = 0) -> list[str]:
    """Ids of provider-made objects that a body uses."""
    found: list[str] = []
    if depth > DEEPEST:
        return found
    if isinstance(payload, dict):
        for name, value in payload.items():
            if name in _REFERENCES:
                found += _ids(value)
            elif isinstance(value, dict | list):
                found += references(value, depth + 1)
    elif isinstance(payload, list):
        for item in payload:
            found += references(item, depth + 1)
    return found


def _ids(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value not in _AUTOMATIC else []
    if isinstance(value, list):
        return [one for one in value if isinstance(one, str)]
    if isinstance(value, dict):
        return _ids(value.get("id")) + _ids(value.get("file_ids"))
    return []


def minted(body: bytes) -> list[str]:
    """Ids of the object in a JSON answer, and of those that came with it."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    return _of_object(answer)


def minted_in(block: bytes) -> list[str]:
    """The same for events of a stream."""
    found: list[str] = []
    for event in sse.events(block):
        try:
            payload = orjson.loads(sse.data(event))
        except orjson.JSONDecodeError:
            continue
        if isinstance(payload, dict):
            found += _of_object(payload.get("response", payload))
    return found


def _of_object(answer: Any) -> list[str]:
    if not isinstance(answer, dict):
        return []
    found = [value for name in _MINTED if isinstance(value := answer.get(name), str) and value]
    for name in ("conversation", "file"):
        nested = answer.get(name)
        if isinstance(nested, dict) and isinstance(nested.get("id"), str):
            found.append(nested["id"])
    return found
