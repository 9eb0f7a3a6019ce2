"""OpenAI's endpoints that pass through as they are: one row per family of paths."""

import re
from typing import NamedTuple

from gateway.core.failure import Forbidden, NotFound

SEGMENT = re.compile(r"[\w.:-]{1,256}", re.ASCII)


class Family(NamedTuple):
    """`label` is the first segment after /v1; `at` where an object's id stands among the segments (0: the
    family has no objects); `verbs` are words that may stand there instead. `open` families need no
    `passthrough` entry. `upload`: bodies may be files."""

    label: str
    at: int = 1
    verbs: frozenset[str] = frozenset()
    open: bool = False
    upload: bool = False


FAMILIES = {
    family.label: family
    for family in (
        Family("responses", verbs=frozenset({"compact", "input_tokens"}), open=True),
        Family("conversations", open=True),
        Family("moderations", at=0, open=True),
        Family("images", at=0, open=True, upload=True),
        Family("audio", at=0, open=True, upload=True),
        Family("files", open=True, upload=True),
        Family("uploads", open=True, upload=True),
        Family("batches", open=True),
        Family("vector_stores"),
        Family("fine_tuning", at=2),
        Family("evals"),
        Family("containers", upload=True),
        Family("assistants"),
        Family("threads", verbs=frozenset({"runs"})),
        Family("videos", upload=True),
        Family("skills", upload=True),
    )
}
STORED = Family("chat", at=2, open=True)  # GET, POST and DELETE of stored chat completions

# Administration of the provider's own account: never, whatever a team's policy says.
NEVER = ("organization", "projects", "realtime")


def segments_of(path: str) -> list[str]:
    """The segments after /v1/. Raises NotFound for anything but plain ones."""
    segments = path.removeprefix("/v1/").rstrip("/").split("/")
    if not all(SEGMENT.fullmatch(segment) for segment in segments):
        raise NotFound(f"there is no {path[:200]!r} here", code="route_not_found")
    return segments


def check_open(family: Family, team: str, passthrough: frozenset[str]) -> None:
    """Raises Forbidden where the team's policy does not open the family."""
    if not family.open and family.label not in passthrough:
        raise Forbidden(
            f'team "{team}" may not use /v1/{family.label}; an admin can add "{family.label}" to its passthrough list',
            code="route_not_allowed",
        )
