"""Tools that a provider runs by itself: one may name a model of its own, which the team must be allowed."""

from typing import Any

from gateway.config.snapshot import Team
from gateway.core.failure import Forbidden


def check_tools(tools: Any, team: Team) -> None:
    """Of a call's `tools`, in whichever dialect (OpenAI's image_generation, Anthropic's advisor). Raises Forbidden."""
    if not isinstance(tools, list):
        return
    for number, tool in enumerate(tools):
        model = tool.get("model") if isinstance(tool, dict) else None
        if isinstance(model, str) and not team.models(model):
            message = (
                f'team "{team.name}" may not use the model "{model[:100]}", which a tool of this call names'
            )
            raise Forbidden(message, code="model_not_allowed", param=f"tools.{number}.model")
