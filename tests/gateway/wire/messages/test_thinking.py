"""How much a Claude is to think, of an effort in chat's words."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.messages.back import MessagesBack
from gateway.wire.messages.thinking import drop_sampling, is_unthought, set_effort, takes_effort
from gateway.wire.refusals import Refusals
from tests.contract.recorded import every

OLD, FIRST, NEW = "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-5"
ADAPTIVE, SHOWN = {"type": "adaptive"}, {"type": "adaptive", "display": "summarized"}


def put(
    effort: str | None, model: str, most: int | None = 9000, forced: bool = False, unthought: bool = False,
    **body: Any,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """(what `body` became, what was left out)."""
    left: list[str] = []
    refusals = Refusals("Claude", None, left)
    chat = {"reasoning_effort": effort, "model": model}
    thinks = set_effort(body, chat, most, refusals, forced=forced, unthought=unthought)
    assert thinks == (body.get("thinking", {}).get("type") in ("adaptive", "enabled"))
    return body, left


def test_what_claudes_were_asked_for_on_record_is_what_each_is_taken_for() -> None:
    seen = set()
    for record in every():
        body = record["request"].get("body")
        body = body if isinstance(body, dict) else {}
        thinking = {**body, **(body.get("additionalModelRequestFields") or {})}.get("thinking")
        model = str(record["model"])
        if thinking and "claude" in model and record["response"]["status"] == 200:
            seen.add(model)
            assert takes_effort(model) == (thinking["type"] == "adaptive"), record["id"]
    assert {"claude-opus-4-6", "claude-sonnet-4-5", "us.anthropic.claude-sonnet-5"} <= seen


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-7", "claude-sonnet-4-6", "anthropic/claude-opus-4.6", "claude-4.6-sonnet", "claude-haiku-5",
     "us.anthropic.claude-opus-4-6-v1", "claude-opus-4-6@20260205", "claude-opus-5-5", "claude-mythos-preview",
     "claude-opus-4-10"],
)  # fmt: skip
def test_a_new_claude_and_one_nobody_knows_take_an_effort(model: str) -> None:
    assert takes_effort(model)


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-1@20250805", "claude-opus-4-20250514", "claude-sonnet-4", "anthropic/claude-sonnet-4.5",
     "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-3-7-sonnet-latest", "anthropic.claude-v2:1",
     "claude-2.1", "claude-instant-1.2", "claude-4-sonnet", "glm-4.6", "deepseek-chat"],
)  # fmt: skip
def test_an_old_claude_and_what_is_none_take_a_budget(model: str) -> None:
    assert not takes_effort(model)
    assert put("low", model)[0] == {"thinking": {"type": "enabled", "budget_tokens": 2048}}


@pytest.mark.parametrize(
    ("model", "effort", "level", "thinking"),
    [
        (NEW, "minimal", "low", SHOWN), (NEW, "xhigh", "xhigh", SHOWN), (NEW, "max", "max", SHOWN),
        (FIRST, "medium", "medium", ADAPTIVE), (FIRST, "xhigh", "high", ADAPTIVE), (FIRST, "max", "max", ADAPTIVE),
    ],
)  # fmt: skip
def test_a_new_claude_is_told_an_effort_that_it_knows_and_shows_its_thoughts(
    model: str, effort: str, level: str, thinking: Any
) -> None:
    assert put(effort, model) == ({"thinking": thinking, "output_config": {"effort": level}}, [])


def test_a_budget_leaves_room_for_an_answer() -> None:
    assert put("high", OLD, 4000)[0]["thinking"]["budget_tokens"] == 3000
    assert put("high", OLD, None)[0]["thinking"]["budget_tokens"] == 24576
    assert put("high", OLD, 1200) == ({}, ["reasoning_effort"])


def test_who_asks_for_nothing_gets_what_the_model_does_unasked() -> None:
    for effort in (None, ""):
        assert put(effort, NEW) == put(effort, OLD) == ({}, [])


@pytest.mark.parametrize("model", [OLD, FIRST, "claude-opus-4-8", "claude-4.6-sonnet", "glm-4.6"])
def test_a_claude_that_thinks_only_when_asked_is_asked_for_no_thought_by_silence(model: str) -> None:
    assert put("none", model) == ({}, [])


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("claude-opus-5", "disabled"), ("us.anthropic.claude-sonnet-5", "disabled"),
        ("claude-sonnet-5@20260630", "disabled"), ("claude-opus-5-20260724", "disabled"),
        ("anthropic/claude-haiku-5.5", "disabled"), ("claude-sonnet-5-5", "between_tools"),
        ("anthropic/claude-sonnet-5.5", "between_tools"),
    ],
)  # fmt: skip
def test_a_claude_that_thinks_unasked_is_told_not_to(model: str, kind: str) -> None:
    assert put("none", model) == ({"thinking": {"type": kind}}, [])
    assert put("none", model, thinking={"type": "own"}) == ({"thinking": {"type": "own"}}, [])


@pytest.mark.parametrize(
    "model", ["claude-opus-5-5", "claude-fable-5", "claude-mythos-preview", "claude-opus-6"]
)
def test_a_claude_that_always_thinks_does_so_as_little_as_it_can(model: str) -> None:
    assert put("none", model) == ({"output_config": {"effort": "low"}}, ["reasoning_effort"])


def test_an_effort_nobody_knows_is_refused() -> None:
    for model in (OLD, NEW):
        with pytest.raises(BadRequest, match="'reasoning_effort'"):
            put("colossal", model)


def test_what_the_call_says_in_anthropics_words_stays_and_an_effort_goes_beside_it() -> None:
    own = {"type": "own"}
    body: Any = {"thinking": own, "output_config": {"effort": "low", "format": {}}}
    assert put("high", NEW, **body) == (body, [])
    assert put("high", NEW, thinking=own) == ({"thinking": own, "output_config": {"effort": "high"}}, [])
    assert put("high", OLD, thinking=own) == ({"thinking": own}, ["reasoning_effort"])


def test_a_call_that_must_call_a_tool_is_made_without_thinking() -> None:
    assert put("high", NEW, forced=True) == ({"output_config": {"effort": "high"}}, [])
    assert put("high", OLD, forced=True) == ({}, ["reasoning_effort"])


def test_a_turn_that_began_without_a_thought_goes_on_with_an_effort_and_not_with_a_budget() -> None:
    assert put("high", NEW, unthought=True)[0]["thinking"] == SHOWN
    assert put("high", OLD, unthought=True) == ({}, ["reasoning_effort"])


def said(role: str, *kinds: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": kind} for kind in kinds]}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], False),
        ([said("user", "text")], False),
        ([said("user", "text"), said("assistant", "call"), said("user", "result")], True),
        ([said("user", "text"), said("assistant", "thought", "call"), said("user", "result")], False),
        ([said("assistant", "thought", "call"), said("user", "result"), said("assistant", "call"),
          said("user", "result")], False),
        ([said("assistant", "call"), said("user", "result"), said("assistant", "thought", "call"),
          said("user", "result", "text")], True),
        ([said("assistant", "call"), said("user", "result"), said("assistant", "text"), said("user", "text")], False),
        ([said("user", "text"), said("assistant", "text")], True),
    ],
)  # fmt: skip
def test_a_turn_begins_where_a_user_spoke_last(turns: Any, expected: bool) -> None:
    of = {kind: (lambda block, kind=kind: block["type"] == kind) for kind in ("result", "thought")}
    assert is_unthought(turns, of["result"], of["thought"]) is expected


def test_a_model_that_thinks_is_not_told_how_to_draw() -> None:
    left: list[str] = []
    fields: dict[str, Any] = {"temperature": 0.2, "top_p": 0.5, "top_k": 3, "seed": 1}
    drop_sampling(fields, FIRST, Refusals("Claude", None, left), thinks=True)
    assert (fields, left) == ({"seed": 1}, ["temperature", "top_p", "top_k"])
    fields = {"temperature": 1, "top_p": 0.95, "top_k": None}
    drop_sampling(fields, FIRST, Refusals("Claude", None, left), thinks=True)
    assert fields == {"top_p": 0.95, "top_k": None}


@pytest.mark.parametrize("model", [OLD, FIRST, "anthropic.claude-opus-4-1-20250805-v1:0", "claude-haiku-4-5"])
def test_a_claude_of_4_1_to_4_6_takes_a_temperature_or_a_top_p(model: str) -> None:
    def drawn(**fields: Any) -> tuple[dict[str, Any], list[str]]:
        left: list[str] = []
        drop_sampling(fields, model, Refusals("Claude", None, left), thinks=False)
        return fields, left

    assert drawn(temperature=1, top_p=0.95) == ({"top_p": 0.95}, [])
    assert drawn(temperature=0.2, top_p=1) == ({"temperature": 0.2}, [])
    assert drawn(temperature=0.2, top_p=0.95) == ({"temperature": 0.2}, ["top_p"])
    assert drawn(top_p=0.5) == ({"top_p": 0.5}, [])


@pytest.mark.parametrize("model", ["claude-3-5-haiku-latest", "claude-sonnet-4-20250514", "glm-4.7"])
def test_those_before_take_both(model: str) -> None:
    fields = {"temperature": 1, "top_p": 0.95}
    drop_sampling(fields, model, Refusals("Claude", None, []), thinks=False)
    assert fields == {"temperature": 1, "top_p": 0.95}


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-7", "claude-opus-4-10", "anthropic/claude-4.8-opus", "us.anthropic.claude-sonnet-5",
     "claude-opus-5-5", "claude-fable-5@20260601", "claude-haiku-10"],
)  # fmt: skip
def test_a_claude_from_4_7_on_is_not_told_how_to_draw_though_it_does_not_think(model: str) -> None:
    left: list[str] = []
    fields: dict[str, Any] = {"temperature": 0, "top_p": 0.99, "top_k": 1, "seed": 1}
    drop_sampling(fields, model, Refusals("Claude", None, left), thinks=False)
    assert (fields, left) == ({"seed": 1}, ["temperature", "top_p", "top_k"])


def test_what_a_claude_from_4_7_on_does_anyway_is_left_out_without_a_word() -> None:
    left: list[str] = []
    fields = {"temperature": 1, "top_p": 1.0, "top_k": None}
    drop_sampling(fields, NEW, Refusals("Claude", None, left), thinks=False)
    assert (fields, left) == ({"top_k": None}, [])


@pytest.mark.parametrize(
    "model",
    [
        OLD,
        FIRST,
        "claude-opus-4-20250514",
        "claude-3-7-sonnet-latest",
        "claude-sonnet-4-6@20260218",
        "glm-4.7",
    ],
)
def test_an_older_claude_that_does_not_think_draws_as_it_is_told(model: str) -> None:
    fields = {"temperature": 0.2, "top_k": 3}
    drop_sampling(fields, model, Refusals("Claude", None, []), thinks=False)
    assert fields == {"temperature": 0.2, "top_k": 3}


def sent(params: dict[str, Any] | None = None, **chat: Any) -> dict[str, Any]:
    """A chat call as Anthropic gets it."""
    return MessagesBack().from_chat({"messages": [], **chat}, Changes("m", params=params or {}))


CALLED = {"id": "t", "type": "function", "function": {"name": "f"}}
LOOP: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "t", "content": "r"},
]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def test_an_effort_is_a_budget_for_an_old_claude_and_an_effort_for_a_new_one() -> None:
    old = sent(model="claude-haiku-4-5", reasoning_effort="low", max_tokens=9000)
    assert (old["thinking"], "output_config" in old) == ({"type": "enabled", "budget_tokens": 2048}, False)
    new = sent(model="claude-opus-5", reasoning_effort="low", max_tokens=9000)
    assert (new["thinking"]["type"], new["output_config"]) == ("adaptive", {"effort": "low"})


def test_who_thinks_without_a_bound_has_room_for_an_answer() -> None:
    assert sent(model="claude-opus-5", reasoning_effort="high")["max_tokens"] == 32000
    assert sent(model="claude-opus-5", reasoning_effort="none")["max_tokens"] == 4096
    assert sent(model="claude-opus-5", reasoning_effort="high", params={"max_tokens": 7})["max_tokens"] == 7
    assert sent(model="claude-opus-4-1", reasoning_effort="high")["max_tokens"] == 4096


def test_what_cannot_go_with_thinking_is_left_out_by_name() -> None:
    left: list[str] = []

    def turned(**chat: Any) -> dict[str, Any]:
        left.clear()
        chat = {"messages": LOOP, "tools": TOOLS, "reasoning_effort": "high", "temperature": 0.2, **chat}
        return MessagesBack().from_chat(chat, Changes("m", left_out=left))

    old = turned(model="claude-sonnet-4-5")  # its turn began without a thought
    assert ("thinking" in old, old["temperature"], left) == (False, 0.2, ["reasoning_effort"])
    new = turned(model="claude-sonnet-5")
    assert (new["thinking"]["type"], "temperature" in new, left) == ("adaptive", False, ["temperature"])
    forced = turned(model="claude-sonnet-5", tool_choice="required")
    assert ("thinking" in forced, "temperature" in forced, left) == (False, False, ["temperature"])
    signed = {"type": "reasoning.text", "text": "", "signature": "s", "format": "anthropic-claude-v1"}
    thought = [LOOP[0], {**LOOP[1], "reasoning_details": [signed]}, LOOP[2]]
    assert turned(model="claude-sonnet-4-5", messages=thought)["thinking"]["type"] == "enabled"
    assert left == ["temperature"]
