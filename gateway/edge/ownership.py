"""Who may use an object a provider made: the team it was made for, nobody else; to others it is not there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from gateway.config.snapshot import Lane
from gateway.core.failure import BadRequest, NotFound
from gateway.edge.references import Reference
from gateway.state.owners import Owner

MOST_REFERENCES = 5000


class Owners(Protocol):
    async def remember(
        self, ids: Sequence[str], owner: Owner, kind: str, charged: int | None = None
    ) -> None: ...

    async def among(self, ids: Sequence[str]) -> Mapping[str, Owner]: ...

    async def forget(self, id: str) -> None: ...

    async def settle(self, ids: Sequence[str]) -> int | None: ...


class Ownership:
    """Asks and tells the book of owners; unknown ids and other teams' look alike."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def provider_of(self, references: Iterable[Reference], team: str) -> str | None:
        """The provider that made all these objects, None where there are none. Raises NotFound for one that
        is not the team's, BadRequest where they lie at different providers."""
        wanted = {one.id: one for one in sorted(references, key=lambda one: one.strict)}
        if len(wanted) > MOST_REFERENCES:
            raise BadRequest(f"a call may use at most {MOST_REFERENCES} objects", code="too_many_objects")
        known = await self._owners.among(list(wanted)) if wanted else {}
        providers = set()
        for one in wanted.values():
            owner = known.get(one.id)
            if owner.team != team if owner is not None else one.strict:
                raise NotFound(f"there is no object {one.id[:100]!r} here", code="not_found")
            if owner is not None and one.strict:
                providers.add(owner.provider)
        if len(providers) > 1:
            raise BadRequest("the objects this call uses lie at different providers", code="mixed_providers")
        return providers.pop() if providers else None

    async def remember(
        self, ids: Sequence[str], team: str, provider: str, kind: str, charged: int | None = None
    ) -> None:
        """Returns once it is safe to tell the client of these ids. `charged`: so many tokens were, of what is only
        begun."""
        if ids:
            await self._owners.remember(ids, Owner(team, provider), kind, charged)

    async def forget(self, id: str) -> None:
        await self._owners.forget(id)

    async def settle(self, ids: Sequence[str]) -> int | None:
        """What was charged for one of these when it was begun, where it tells for the first time what it took."""
        return await self._owners.settle(ids)

    async def own(self, data: Sequence[Any], team: str) -> list[Any]:
        """Those of a provider's list that are this team's, in their order."""
        listed = [one for one in data if isinstance(one, dict) and isinstance(one.get("id"), str)]
        known = await self._owners.among([one["id"] for one in listed])
        return [one for one in listed if (owner := known.get(one["id"])) is not None and owner.team == team]


def held_by(lane: Lane, provider: str | None) -> Lane:
    """The lane without the targets that do not have the objects a call uses. Raises BadRequest."""
    if provider is None:
        return lane
    targets = tuple(target for target in lane.targets if target.provider == provider)
    if not targets:
        raise BadRequest(
            f'the objects this call uses lie at "{provider}", which does not serve "{lane.model}"',
            code="mixed_providers",
            param="model",
        )
    return replace(lane, targets=targets)
