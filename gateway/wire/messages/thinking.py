"""How much a Claude is to think, of an effort in chat's words: those up to 4.5 take a budget of tokens, later ones the
effort itself. Converse passes both on as Anthropic has them.

platform.claude.com/docs: "Adaptive thinking", "Extended thinking", "Effort". Opus 4.6 and Sonnet 4.6 take either, those
that came after them answer a budget with a 400, and so they do a temperature, top_p or top_k, whether they think or not
("Migration guide"). On record: claude-opus-4-6 and us.anthropic.claude-sonnet-5 think adaptively, claude-sonnet-4-5 and
claude-haiku-4-5 by a budget. From version 5 on they think unasked ("Troubleshooting thinking"), and not every one lets
it be turned off.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from gateway.wire.fields import member, text
from gateway.wire.messages.words import BUDGETS, LEAST_BUDGET
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json

# Claudes that know no effort, in their makers' and in resellers' names; one that nobody here knows is a newer one.
_OLD = re.compile(r"claude-(?:instant|v?[1-3]\b|(?:[a-z]+-)?4\b(?![-.](?:[6-9]|\d\d)\b))")
_FIRST = re.compile(r"4[-.]6\b")  # to know one: no xhigh yet, and their thoughts are shown unasked
# Of those that know an effort, who thinks only when asked to.
_ON_DEMAND = re.compile(r"claude-(?:[a-z]+-)?4\b")
# How thinking is turned off where it is on unasked; all others answer that with a 400.
_OFF = {
    "disabled": re.compile(r"claude-(?:(?:opus|sonnet)-5\b(?![-.]\d{1,2}\b)|haiku-5[-.]5\b)"),
    "between_tools": re.compile(r"claude-sonnet-5[-.]5\b"),
}
_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
# Those that draw tokens in no other way than their own: from 4.7 on.
_SET = re.compile(r"claude-(?:[a-z]+-)?(?:4[-.](?:[7-9]|\d\d)|[5-9]|\d\d)\b")
# Those that take a temperature or a top_p, and answer both with a 400 (aws-samples/bedrock-chat#979).
_EITHER = re.compile(r"claude-(?:[a-z]+-)?4[-.][156]\b")
# What may be set of a model that thinks ("Extended thinking, Feature compatibility").
_FITS: dict[str, Callable[[Any], bool]] = {
    "temperature": lambda value: value == 1,
    "top_p": lambda value: 0.95 <= value <= 1,
    "top_k": lambda value: False,
}


def takes_effort(model: str) -> bool:
    """Others that speak Anthropic's language have it as old Claudes do."""
    return "claude" in model and not _OLD.search(model)


def set_effort(
    body: Json, chat: Json, most: Any, refusals: Refusals, *, forced: bool, unthought: bool
) -> bool:
    """Puts the call's `reasoning_effort` into `body`, whose own fields go before it, and says whether the model thinks
    by it. `most` are the tokens it may write, None where nothing bounds them. `forced`: it must call a tool, for which
    thinking is off; `unthought`: it goes on with a turn that began without a thought, which a budget does not allow."""
    asked, model = text(chat, "reasoning_effort"), text(chat, "model")
    if asked == "none":
        _unthink(body, model, refusals)
    if asked in ("", "none"):
        return False
    if asked not in BUDGETS:
        refusals.add("reasoning_effort")
        return False
    own = "thinking" in body
    if takes_effort(model):
        is_first = _FIRST.search(model) is not None
        level = "high" if is_first and asked == "xhigh" else _LEVELS[asked]
        body["output_config"] = {"effort": level, **member(body, "output_config")}
        if own or forced:
            return False
        body["thinking"] = {"type": "adaptive"} | ({} if is_first else {"display": "summarized"})
        return True
    budget = min(BUDGETS[asked], most * 3 // 4) if most else BUDGETS[asked]  # leaves room for an answer
    if own or forced or unthought or budget < LEAST_BUDGET:
        refusals.leave_out("reasoning_effort")
        return False
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _unthink(body: Json, model: str, refusals: Refusals) -> None:
    """Asks a Claude that thinks unasked not to. One that cannot be kept from it thinks as little as it can."""
    if "thinking" in body or not takes_effort(model) or _ON_DEMAND.search(model):
        return
    for kind, models in _OFF.items():
        if models.search(model):
            body["thinking"] = {"type": kind}
            return
    body["output_config"] = {"effort": "low", **member(body, "output_config")}
    refusals.leave_out("reasoning_effort")


def is_unthought(
    turns: Sequence[Json], is_result: Callable[[Json], bool], is_thought: Callable[[Json], bool]
) -> bool:
    """Whether what the model has said since a user spoke, results of tools left aside, begins with no thought."""
    first = None
    for turn in reversed(turns):
        if turn["role"] == "assistant":
            first = turn
        elif not any(map(is_result, turn["content"])):
            break
    return first is not None and not is_thought(first["content"][0])


def drop_sampling(fields: Json, model: str, refusals: Refusals, *, thinks: bool) -> None:
    """Leaves out how to draw tokens, where a model does not let itself be told: one that thinks, and each from
    4.7 on. Of those before, some take a temperature or a top_p, not both."""
    told = [name for name in _FITS if fields.get(name) is not None]
    if not told:
        return
    is_set = _SET.search(model) is not None
    for name in told:
        if is_set and fields[name] == 1 and name != "top_k":
            del fields[name]  # what it does anyway
        elif is_set or (thinks and not _FITS[name](fields[name])):
            del fields[name]
            refusals.leave_out(name)
    if fields.get("temperature") is not None and fields.get("top_p") is not None and _EITHER.search(model):
        _choose(fields, refusals)


def _choose(fields: Json, refusals: Refusals) -> None:
    """Of both the one that says something; the temperature where both do."""
    for name in ("temperature", "top_p"):
        if fields[name] == 1:
            del fields[name]
            return
    del fields["top_p"]
    refusals.leave_out("top_p")
