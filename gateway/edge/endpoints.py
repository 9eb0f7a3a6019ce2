"""OpenAI's endpoints that pass through as they are: one row per family of paths, default deny."""

import re
from typing import NamedTuple

from gateway.core.failure import Forbidden, NotFound, WrongMethod

SEGMENT = re.compile(r"(?!\.+$)[\w.:-]{1,256}", re.ASCII)


class Family(NamedTuple):
    """`label` is the first segment after /v1. Under it lie `collections` of objects (whose members are named by
    the segment that follows: "" is the family's own root) and `actions` (whole paths that name no object).
    `open` families need no `passthrough` entry. `upload`: bodies may be files. `named`: a multipart body may
    name a model."""

    label: str
    collections: tuple[str, ...] = ("",)
    actions: frozenset[str] = frozenset()
    open: bool = False
    upload: bool = False
    named: bool = False


class Place(NamedTuple):
    """Where a path leads: to a collection, to one of its objects, or below it; else to an action."""

    segments: tuple[str, ...]
    object_id: str = ""
    is_collection: bool = False
    is_object: bool = False


FAMILIES = {
    family.label: family
    for family in (
        Family("audio", (), frozenset({"speech", "transcriptions", "translations"}), True, True, True),
        Family("batches", open=True),
        Family("chat", ("completions",), open=True),  # stored completions
        Family("conversations", open=True),
        Family("files", open=True, upload=True),
        Family("images", (), frozenset({"generations", "edits", "variations"}), True, True, True),
        Family("moderations", (), frozenset({""}), True),
        Family("responses", actions=frozenset({"compact", "input_tokens"}), open=True),
        Family("uploads", open=True, upload=True),
        Family("assistants"),
        Family("containers", upload=True),
        Family("evals"),
        Family("fine_tuning", ("jobs",), frozenset({"alpha/graders/run", "alpha/graders/validate"})),
        Family("skills", upload=True),
        Family("threads", actions=frozenset({"runs"})),
        Family("vector_stores"),
        Family("videos", ("characters", ""), frozenset({"edits", "extensions"}), False, True, True),
    )
}

# Where a POST has a model compute: by default one that the provider chooses.
RUNS = frozenset({"audio", "images", "moderations", "responses", "videos"})

# Administration of the provider's own account, and what is no HTTP: never, whatever a team's policy says.
NEVER = ("organization", "projects", "realtime")


def place_of(family: Family, path: str) -> Place:
    """Raises NotFound for paths that are not in the family's row, or hold anything but plain segments."""
    segments = tuple(path.removeprefix("/v1/").split("/"))
    inner = "/".join(segments[1:])
    if all(SEGMENT.fullmatch(segment) for segment in segments):
        if inner in family.actions:
            return Place(segments)
        for collection in family.collections:
            if inner == collection:
                return Place(segments, is_collection=True)
            at = 1 + bool(collection)
            if len(segments) > at and (not collection or segments[1] == collection):
                return Place(segments, segments[at], is_object=len(segments) == at + 1)
    raise NotFound(f"there is no {path[:200]!r} here", code="route_not_found")


def check_method(place: Place, method: str) -> None:
    """Raises WrongMethod. What an object takes is the provider's to say."""
    taken: tuple[str, ...]
    if place.is_collection:
        taken = ("GET", "POST")
    elif place.object_id:
        taken = ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH")
    else:
        taken = ("POST",)
    if method not in taken:
        raise WrongMethod("/v1/" + "/".join(place.segments), method, taken)


def check_open(family: Family, team: str, passthrough: frozenset[str]) -> None:
    """Raises Forbidden where the team's policy does not open the family."""
    if not family.open and family.label not in passthrough:
        raise Forbidden(
            f'team "{team}" may not use /v1/{family.label}; '
            f'an admin can add "{family.label}" to the passthrough list of its team',
            code="route_not_allowed",
        )
