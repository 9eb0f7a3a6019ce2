from typing import Any

from gateway.config.explain import explain
from gateway.config.schema import GivenSpec
from gateway.core.key import KeyFacts
from tests.gateway.config.texts import BASE, snapshot

RULES = """\
kind: models
models:
  picky: {targets: [{provider: openai, if: "request.stream"}, {provider: ours, model: llama}]}
---
kind: rate-limits
match: first
rules:
  - {id: free, limit: 1, unit: requests, per: minute, when: {teams: [free]}}
  - {id: prod, limit: 20, unit: requests, per: minute, when: {metadata: {env: prod}}, for_each: [team, user]}
  - {id: rest, limit: 30, unit: requests, per: minute}
---
kind: rate-limits
rules:
  - {id: streams, limit: 9, unit: tokens, per: day, if: "request.stream", mode: shadow}
  - {id: others, limit: 5, unit: concurrent, when: {models: [smart]}}
"""


def ask(**given: object) -> dict[str, Any]:
    return explain(
        snapshot(BASE, RULES), GivenSpec.model_validate({"model": "picky", "team": "all", **given}), 0.0
    )


def test_each_rule_matches_or_says_which_predicate_fails_first() -> None:
    found = ask(metadata={"env": "prod"})
    assert found["rules"] == [
        {"rule": "free", "matches": False, "because": "when.teams"},
        {"rule": "prod", "matches": True, "because": None},
        {"rule": "rest", "matches": False, "because": "rule prod matched first"},
        {"rule": "streams", "matches": False, "because": "if"},
        {"rule": "others", "matches": False, "because": "when.models"},
    ]


def test_limits_that_apply_say_how_much_of_which_bucket_is_taken() -> None:
    found = ask(
        metadata={"env": "prod", "user": "ada"},
        request={"stream": True, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]},
    )
    first, second = found["limits"]
    assert first == {
        "rule": "prod",
        "bucket": ["all", "ada"],
        "amount": 1,
        "limit": 20,
        "unit": "requests",
        "per_seconds": 60,
        "mode": "enforce",
    }
    assert second["rule"] == "streams"
    assert second["bucket"] == []
    assert second["mode"] == "shadow"
    assert second["amount"] > 5


def test_targets_come_in_order_and_those_left_out_say_why() -> None:
    assert ask(request={"stream": True})["targets"] == [
        {"target": "openai/picky", "tried": 1, "because": None, "dropped": []},
        {"target": "ours/llama", "tried": 2, "because": None, "dropped": []},
    ]
    assert ask()["targets"] == [
        {"target": "ours/llama", "tried": 1, "because": None, "dropped": []},
        {"target": "openai/picky", "tried": None, "because": "its if does not hold", "dropped": []},
    ]
    assert ask(down=["ours"], request={"stream": True})["targets"] == [
        {"target": "openai/picky", "tried": 1, "because": None, "dropped": []},
        {"target": "ours/llama", "tried": None, "because": "it is down", "dropped": []},
    ]


def test_what_is_allowed_says_where_it_belongs() -> None:
    found = ask()
    assert found["allowed"] is True
    assert found["refused"] is None
    assert found["team"] == "all"
    assert found["model"] == "picky"
    assert len(str(found["policies"])) == 12


def test_a_refusal_before_any_rule_has_neither_rules_nor_targets() -> None:
    found = ask(team="free")
    assert found["allowed"] is False
    assert found["refused"] == {
        "code": "model_not_allowed",
        "message": 'team "free" may not use the model "picky"',
        "rule": "",
    }
    assert found["rules"] == found["limits"] == found["targets"] == []


def test_a_refusal_by_a_rule_still_shows_the_way_it_would_have_gone() -> None:
    found = ask(used={"rest": 30})
    assert found["refused"] == {
        "code": "rate_limit_exceeded",
        "message": 'rule "rest": 30 requests per minute are used up; try again in 2 s',
        "rule": "rest",
    }
    assert found["targets"]


def test_a_target_that_cannot_serve_the_call_says_what_it_lacks() -> None:
    models = """
kind: models
models:
  eyes: {targets: [{provider: ours, model: gpt-3.5-turbo}, {provider: openai, model: gpt-4o}]}
  blind:
    targets:
      - {provider: ours, model: a, capabilities: {images: false}}
      - {provider: openai, model: gpt-4o-audio-preview}
"""
    seen = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]}
    rows = {
        model: explain(
            snapshot(BASE, models),
            GivenSpec.model_validate({"model": model, "team": "all", "request": seen}),
            0.0,
        )["targets"]
        for model in ("eyes", "blind")
    }
    assert rows["eyes"] == [
        {"target": "openai/gpt-4o", "tried": 1, "because": None, "dropped": []},
        {"target": "ours/gpt-3.5-turbo", "tried": None, "because": "it cannot serve images", "dropped": []},
    ]
    assert [row["tried"] for row in rows["blind"]] == [
        1,
        2,
    ]  # where none can, the providers answer for themselves


def test_a_rerank_goes_to_who_has_an_endpoint_for_it() -> None:
    found = ask(model="picky", request={"stream": True, "query": "q", "documents": ["d"]})
    assert found["targets"] == [
        {"target": "ours/llama", "tried": 1, "because": None, "dropped": []},
        {
            "target": "openai/picky",
            "tried": None,
            "because": "its provider has no such endpoint",
            "dropped": [],
        },
    ]
    assert [limit["amount"] for limit in found["limits"]] == [1, 2], (
        "the query, the document, nothing written"
    )


CLAUDE = """
kind: providers
providers: {claude: {type: anthropic, api_key: sk-ant-0001}}
---
kind: models
models:
  talk: {targets: [{provider: claude}, {provider: ours}]}
  alone: {targets: [{provider: claude}]}
"""
IN_THE_WAY = "'logit_bias' cannot be carried over to Anthropic's Messages, which this model's provider speaks"


def put(model: str, **given: object) -> dict[str, Any]:
    return explain(
        snapshot(BASE, CLAUDE), GivenSpec.model_validate({"model": model, "team": "all", **given}), 0.0
    )


def test_a_target_that_cannot_carry_a_field_comes_last_and_goes_without_it() -> None:
    assert put("talk", request={"logit_bias": {1: 1}})["targets"] == [
        {"target": "ours/talk", "tried": 1, "because": None, "dropped": []},
        {"target": "claude/talk", "tried": 2, "because": IN_THE_WAY, "dropped": ["logit_bias"]},
    ]


def test_a_target_behind_one_that_is_down_is_asked_for_what_it_can_carry() -> None:
    cited = {"type": "document", "source": {"type": "text", "data": "d"}, "citations": {"enabled": True}}
    asked = {"messages": [{"role": "user", "content": [cited]}], "max_tokens": 9}
    found = put("talk", dialect="anthropic.messages", request=asked, down=["claude"])
    assert found["targets"] == [
        {"target": "ours/talk", "tried": 1, "because": None, "dropped": ["messages.0.content.0.citations"]},
        {"target": "claude/talk", "tried": None, "because": "it is down", "dropped": []},
    ]


def test_a_target_that_nothing_would_be_left_for_is_not_tried() -> None:
    odd = {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "function": {"arguments": "["}}]}
    first, second = put("talk", request={"messages": [odd]})["targets"]
    assert (first["target"], first["tried"]) == ("ours/talk", 1)
    assert (second["target"], second["tried"]) == ("claude/talk", None)
    assert "messages[0]" in second["because"]


def test_a_call_that_no_target_can_carry_is_refused_as_a_live_one_is() -> None:
    found = put("alone", request={"logit_bias": {"1": 1}})
    assert found["refused"] == {
        "code": "unsupported_parameter",
        "message": f"{IN_THE_WAY} (target claude/alone)",
        "rule": "",
    }
    assert found["targets"] == [
        {"target": "claude/alone", "tried": None, "because": IN_THE_WAY, "dropped": []}
    ]


OFF = """
kind: providers
providers: {dark: {type: groq, api_key: "${GONE:-}"}}
---
kind: models
models:
  half: {targets: [{provider: dark, model: g}, {provider: ours}]}
  none-*: {targets: [{provider: dark}]}
"""
IS_OFF: dict[str, object] = {
    "tried": None,
    "because": "its provider is off: its api_key is empty",
    "dropped": [],
}


def test_a_target_whose_provider_is_off_says_so() -> None:
    found = explain(snapshot(BASE, OFF), GivenSpec(model="half", team="all"), 0.0)
    assert found["targets"] == [
        {"target": "ours/half", "tried": 1, "because": None, "dropped": []},
        {"target": "dark/g", **IS_OFF},
    ]


def test_a_model_that_is_not_served_names_the_targets_that_are_off_to_who_may_use_it() -> None:
    found = explain(snapshot(BASE, OFF), GivenSpec(model="none-1", team="all"), 0.0)
    assert found["refused"]["code"] == "model_not_found"
    assert found["targets"] == [{"target": "dark/none-1", **IS_OFF}]
    assert explain(snapshot(BASE, OFF), GivenSpec(model="none-1", team="free"), 0.0)["targets"] == []


def test_a_call_that_is_refused_before_says_so_of_every_target() -> None:
    shut = 'kind: access\nteams: {shut: {models: ["*"], if: "request.stream"}}'
    given = GivenSpec(model="smart", team="shut")
    found = explain(snapshot(BASE, shut), given, 0.0)
    assert [row["because"] for row in found["targets"]] == ["the call is refused before"] * 2


def test_a_key_is_known_by_the_files_or_by_what_was_issued_until_it_expires() -> None:
    given = GivenSpec(key="ci", model="gpt-5")
    issued = [KeyFacts("ci", "all", "0a" * 32, 100.0)]
    moments = {moment: explain(snapshot(BASE), given, moment, issued) for moment in (99.0, 100.0)}
    assert moments[99.0]["allowed"]
    assert moments[100.0]["refused"]["message"] == 'the key "ci" has expired'
    assert explain(snapshot(BASE), given, 99.0)["refused"]["message"] == 'no key named "ci"'
