"""Models that a call names beside its own: those of tools that a provider runs by itself, and those that it is to turn
to when the first one fails. The team must be allowed each, by the name that the provider has for it."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.snapshot import Team
from gateway.core.failure import BadRequest, Forbidden
from gateway.wire.fields import READ, refuse_names

# OpenRouter's, in chat and Messages, and LiteLLM's.
FALLBACKS = frozenset({"models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks"})


def check_other_models(payload: Mapping[str, Any], team: Team) -> None:
    """Raises Forbidden for one that the team may not use, BadRequest for one that says where it is asked, and for what
    would be read in the place of what is checked here."""
    if tools := payload.get("tools"):
        _check_tools(tools, team)
    if not FALLBACKS.isdisjoint(payload):
        for name in sorted(FALLBACKS.intersection(payload)):
            for place, model in _named(name, payload[name]):
                _check(model, team, place, "names for when its own fails")
    if isinstance(extra := payload.get("extra_body"), dict):
        _check_extra(extra)


def _check_extra(extra: Mapping[str, Any]) -> None:
    """What LiteLLM puts over the body that it sends on, whatever was checked of that. Raises BadRequest."""
    refuse_names(extra)
    if read := READ.intersection(extra):
        place = f"extra_body.{min(read)}"
        raise BadRequest(
            f"'{place}' must stand in the call itself", code="unsupported_parameter", param=place
        )


def _check_tools(tools: Any, team: Team) -> None:
    """Of whichever dialect (OpenAI's image_generation, Anthropic's advisor)."""
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        model = tool.get("model") if isinstance(tool, dict) else None
        if isinstance(model, str):
            _check(model, team, f"tools.{number}.model", "names in a tool")


def _named(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names, calls of one (`{"model": ...}`), and LiteLLM's lists by the model that fails, each with its place. What
    lies deeper than these is read by nobody. Raises BadRequest."""
    todo = [(place, value)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, list):
            todo += [(f"{place}.{number}", one) for number, one in enumerate(value)]
        elif isinstance(value, dict):
            refuse_names(value)
            inner = {"model": value["model"]} if "model" in value else value
            todo += [(f"{place}.{name[:100]}", one) for name, one in inner.items()]


def _check(model: str, team: Team, place: str, how: str) -> None:
    if not team.models(model):
        message = f'team "{team.name}" may not use the model "{model[:100]}", which this call {how}'
        raise Forbidden(message, code="model_not_allowed", param=place)
