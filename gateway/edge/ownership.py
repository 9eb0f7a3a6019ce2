"""Who may use an object a provider made: the team it was made for, nobody else; to others it is not there."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import orjson

from gateway.config.snapshot import Lane
from gateway.core.failure import BadRequest, NotFound
from gateway.state.owners import Owner
from gateway.wire import sse
from gateway.wire.splice import members

# Where bodies name objects that must be the team's own, alone or in lists, or as {"id": ...}.
REFERENCES = frozenset(
    {
        "assistant_id", "container", "container_id", "conversation", "eval_id", "file_id", "file_ids",
        "input_file_id", "part_ids", "previous_response_id", "skill_id", "thread_id", "training_file",
        "validation_file", "vector_store_id", "vector_store_ids",
    }
)  # fmt: skip
# Free text and JSON schemas of the client's: what is called file_id there is none.
_OPAQUE = frozenset({"metadata", "parameters", "schema", "json_schema"})
# Written plainly or with escapes: where none of this occurs, the body is not searched.
_SUSPECT = re.compile(rb'_ids?"|"id"|"conversation"|"container"|_file"|\\u00')
_NO_IDS = ("", "auto")
_ESCAPED = re.compile(rb"\\u00[567]")  # the letters of "file_id" and "fileUri" are U+0055 to U+0072
# Where Gemini keeps files, which all who share the account could use.
_STORED = re.compile(
    r"https?://[\w.-]*\.googleapis\.com(?::\d+)?/[\w/]*(files/[\w-]+)", re.ASCII | re.IGNORECASE
)

_MINTED = (
    "id",
    "output_file_id",
    "error_file_id",
    "container_id",
    "file_id",
    "vector_store_id",
    "result_files",
)
_NESTED = ("conversation", "file", "item")
MOST_REFERENCES = 5000


class Owners(Protocol):
    async def remember(self, ids: Sequence[str], owner: Owner, kind: str) -> None: ...

    async def among(self, ids: Sequence[str]) -> Mapping[str, Owner]: ...

    async def forget(self, id: str) -> None: ...


class Reference(NamedTuple):
    """An id a body uses. `strict`: it must be known; else it only must not be another team's (items that a
    client sends back carry ids that may come from anywhere)."""

    id: str
    strict: bool = True


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

    async def remember(self, ids: Sequence[str], team: str, provider: str, kind: str) -> None:
        """Returns once it is safe to tell the client of these ids."""
        if ids:
            await self._owners.remember(ids, Owner(team, provider), kind)

    async def forget(self, id: str) -> None:
        await self._owners.forget(id)

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


class _Object(list[tuple[str, Any]]):
    """A JSON object with every member it was written with: of two with one name, parsers differ on which
    counts, so both must be good."""


def references(body: bytes) -> list[Reference]:
    """Ids of provider-made objects that a (valid) JSON body uses. Raises BadRequest past all depth."""
    if not _SUSPECT.search(body):
        return []
    return list(_references(_read(body, _Object)))


def files(body: bytes) -> list[Reference]:
    """The files a chat call uses; of Gemini's those in its own store."""
    if body.find(b"file") < 0 and not (body.find(b"\\u00") >= 0 and _ESCAPED.search(body)):
        return []
    ids = [Reference(one) for one in named(body, "file_id")]
    return ids + [
        Reference(found[1]) for one in named(body, "fileUri", "file_uri") if (found := _STORED.match(one))
    ]


def named(body: bytes, *names: str) -> list[str]:
    """Every string that stands under one of these names anywhere in a (valid) JSON body."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.extend(value for known, value in pairs if known in names and isinstance(value, str))

    _read(body, look)
    return found


def _read(body: bytes, pairs: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    try:
        return json.loads(body, object_pairs_hook=pairs)
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def _references(tree: Any) -> Iterator[Reference]:
    todo: list[tuple[str, Any]] = [("", tree)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, _Object):
            yield from _of_members(place, value)
            todo += [(name, one) for name, one in value if name not in _OPAQUE]
        elif isinstance(value, list):
            todo += [(place, one) for one in value]
        elif isinstance(value, str) and place in REFERENCES and value not in _NO_IDS:
            yield Reference(value)


def _of_members(place: str, members: _Object) -> Iterator[Reference]:
    """Objects that are a reference as a whole, by their `id`."""
    ids = [value for name, value in members if name == "id" and isinstance(value, str)]
    if not ids or place in ("", "prompt"):  # stored prompts are made by hand, for all teams of the account
        return
    kinds = [value for name, value in members if name == "type"]
    bare = {name for name, _ in members} <= {"id", "type"}
    refers = bare or place in REFERENCES or "item_reference" in kinds or "file_id" in kinds
    yield from (Reference(one, refers) for one in ids)


def minted(body: bytes, *, nested: bool) -> list[str]:
    """Ids that came with a JSON answer; `nested`: also those of a list of parts of an owned object. An answer
    that is cut off gives what its top level says before the cut."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = _top_level(body)
    found = list(_minted(answer))
    if nested and isinstance(answer, dict) and isinstance(answer.get("data"), list):
        for one in answer["data"]:
            found += _minted(one)
    return found


def minted_in(block: bytes) -> list[str]:
    """The same for whole events of a stream."""
    found: list[str] = []
    for event in sse.events(block):
        if b'"id"' not in event and b"_id" not in event:
            continue
        try:
            payload = orjson.loads(sse.data(event))
        except orjson.JSONDecodeError:
            continue
        if isinstance(payload, dict):
            found += _minted(payload.get("response", payload))
    return found


def _minted(answer: Any) -> Iterator[str]:
    if not isinstance(answer, dict):
        return
    for name in _MINTED:
        value = answer.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one:
                yield one
    for name in _NESTED:
        yield from _minted(answer.get(name))
    output = answer.get("output")
    for item in output if isinstance(output, list) else ():
        yield from _minted(item)


def _top_level(body: bytes) -> dict[str, Any]:
    if not body.lstrip().startswith(b"{"):
        return {}
    found = {}
    for member in members(body):
        if member.name in _MINTED and body[member.start : member.start + 1] == b'"':
            found[member.name] = orjson.loads(body[member.start : member.end])
    return found
