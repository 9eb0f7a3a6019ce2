"""OpenAI's models that reason do not let themselves be told how to draw tokens: a top_p is a 400, and so is a
temperature other than 1 (home-assistant/core#158842, OpenHands/software-agent-sdk#1837). From 5.1 on they take both
with the effort `none` (developers.openai.com: "Using GPT-5.2, Parameter compatibility")."""

import re

from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json

_REASONS = re.compile(r"(?:.*/)?(?:o[134]\b|gpt-(?:[5-9]|\d\d)\b(?!.*chat))")


def drop_sampling(body: Json, model: str, effort: str, refusals: Refusals) -> None:
    """Leaves out of a call, with a name where it says something, what such a model refuses. Other servers' models of
    such a name are OpenAI's own."""
    if effort == "none" or not _REASONS.match(model):
        return
    for name in ("temperature", "top_p"):
        if body.get(name) is not None:
            if body[name] != 1:
                refusals.leave_out(name)
            del body[name]
