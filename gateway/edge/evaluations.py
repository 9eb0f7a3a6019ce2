"""What evaluations and graders name: models that the team may use, and nothing that all teams of an account stored."""

from gateway.config.snapshot import Team
from gateway.core.failure import Forbidden
from gateway.edge.references import members_of

GRADED = frozenset({"evals", "fine_tuning"})  # families of paths whose bodies may hold them
# Data that the provider gathers itself, out of what anybody stored there.
_GATHERED = {
    "source": frozenset({"responses", "stored_completions"}),
    "data_source_config": frozenset({"logs", "stored_completions"}),
}


def check_graded(body: bytes, team: Team) -> None:
    """Raises Forbidden."""
    for place, name, value in members_of(body):
        if not isinstance(value, str):
            continue
        if name == "model" and not team.models(value):
            raise Forbidden(f'team "{team.name}" may not use the model "{value[:100]}"', param="model")
        if name == "type" and value in _GATHERED.get(place, ()):
            message = f"data of type {value!r} would be that of every team; give it as a file or in the call"
            raise Forbidden(message, code="data_not_allowed", param=place)
