from typing import get_args

import pytest

from gateway.config.dry_run import dry_run
from gateway.config.schema import DialectName, GivenSpec
from gateway.config.variables import Filled
from gateway.wire.registry import BACKS, DIALECTS, ROUTES
from tests.gateway.config.texts import BASE, snapshot, told

HASH = "sha256:" + "0a" * 32
RULES = f"""\
kind: access
teams: {{capped: {{models: ["*"], max_output_tokens: 100}}, shut: {{models: ["*"], if: "request.stream"}}}}
keys: [{{name: ci, team: all, hash: "{HASH}"}}]
---
kind: models
models:
  picky:
    targets: [{{provider: openai, if: "request.max_tokens <= 10"}}, {{provider: ours}}]
  heavy:
    strategy: weighted
    targets: [{{provider: openai, weight: 1}}, {{provider: ours, weight: 9}}]
  quick: {{strategy: fastest, targets: [{{provider: ours}}, {{provider: openai}}]}}
  spread: {{strategy: least-busy, targets: [{{provider: ours}}, {{provider: openai}}]}}
---
kind: rate-limits
rules:
  - {{id: calls, limit: 10, unit: requests, per: minute, when: {{teams: [all]}}}}
  - {{id: tokens, limit: 1000, unit: tokens, per: day, when: {{teams: [capped]}}}}
  - {{id: at-once, limit: 3, unit: concurrent, when: {{models: [quick]}}}}
  - {{id: spare, limit: 2000, unit: requests, per: second, when: {{models: [quick]}}}}
  - {{id: dark, limit: 1, unit: requests, per: day, mode: shadow, when: {{teams: [all]}}}}
"""


def failed(given: str, expect: str) -> list[str]:
    test = f"---\nkind: tests\ntests:\n  - {{name: it, given: {given}, expect: {expect}}}\n"
    return [line.split("fails: ", 1)[1] for line in told(BASE, RULES + test)]


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("{team: all, model: gpt-5}", "{allowed: true, target: openai}"),
        ("{key: ci, model: gpt-5}", "{allowed: true, target: openai/gpt-5, targets: [openai]}"),
        ("{team: free, model: smart}", "{allowed: false, refused: model_not_allowed}"),
        ("{team: all, model: none}", "{refused: model_not_found}"),
        ("{team: all, model: smart}", "{targets: [openai/gpt-5, ours/llama], limits: [dark, calls]}"),
        ("{team: all, model: smart, down: [openai]}", "{target: ours}"),
        ("{team: all, model: smart, down: [openai/gpt-5]}", "{target: ours/llama}"),
        ("{team: all, model: smart, down: [openai, ours]}", "{refused: no_target}"),
        ("{team: all, model: picky, request: {max_tokens: 11}}", "{targets: [ours/picky]}"),
        ("{team: all, model: picky, request: {max_completion_tokens: 10}}", "{target: openai}"),
        ("{team: all, model: heavy}", "{targets: [ours, openai]}"),
        ("{team: all, model: quick}", "{targets: [ours, openai]}"),
        ("{team: all, model: spread}", "{targets: [ours, openai]}"),
        ("{team: all, model: gpt-5, used: {calls: 9}}", "{allowed: true}"),
        ("{team: all, model: gpt-5, used: {calls: 10}}", "{refused: rate_limit_exceeded, rule: calls}"),
        ("{team: all, model: gpt-5, used: {dark: 10}}", "{allowed: true}"),
        # As in life: of both the one with the longer wait, which of calls in flight is a second.
        ("{team: all, model: quick, used: {calls: 10, at-once: 3}}", "{rule: calls}"),
        ("{team: all, model: quick, used: {spare: 2000, at-once: 3}}", "{rule: at-once}"),
        ("{team: capped, model: gpt-5, request: {max_tokens: 101}}", "{refused: max_output_tokens_exceeded}"),
        ("{team: capped, model: gpt-5, request: {n: 20}}", "{refused: request_exceeds_limit, rule: tokens}"),
        ("{team: capped, model: gpt-5, used: {tokens: 950}}", "{refused: rate_limit_exceeded}"),
        ("{team: shut, model: gpt-5}", "{refused: access_denied}"),
        ("{team: shut, model: gpt-5, request: {stream: true}}", "{allowed: true}"),
        ("{team: all, model: gpt-5, request: {n: 0}}", "{refused: invalid_value}"),
        ("{team: all, model: gpt-5, request: {messages: 5}}", "{allowed: true}"),
        (
            "{team: all, model: gpt-5, dialect: anthropic.messages, request: {messages: 5}}",
            "{refused: missing_required_parameter}",
        ),
        ("{team: all, model: gpt-5, dialect: gemini.generate}", "{allowed: true, target: openai}"),
        ("{team: shut, model: gpt-5, dialect: gemini.generate, request: {stream: true}}", "{allowed: true}"),
        ("{team: all, model: smart, dialect: cohere.rerank_v1}", "{targets: [ours/llama]}"),
        (
            "{team: capped, model: gpt-5, dialect: openai.responses, request: {max_output_tokens: 101}}",
            "{refused: max_output_tokens_exceeded}",
        ),
        ("{team: all, model: smart, request: {logit_bias: {50256: 1}}}", "{target: openai}"),
    ],
)
def test_what_comes_of_a_call(given: str, expect: str) -> None:
    assert failed(given, expect) == []


@pytest.mark.parametrize(
    ("expect", "why"),
    [
        ("{allowed: false}", "allowed"),
        ("{refused: model_not_found}", "allowed"),
        ("{rule: calls}", 'the rule is "", allowed'),
        ("{target: ours}", "the first is openai/gpt-5, allowed"),
        ("{targets: [ours]}", "they are openai/gpt-5"),
        ("{targets: [openai, ours]}", "they are openai/gpt-5"),
        ("{limits: []}", "they are calls, dark"),
    ],
)
def test_a_test_that_fails_says_what_came_instead(expect: str, why: str) -> None:
    assert failed("{team: all, model: gpt-5}", expect) == [f"{why}; mend the policies or the test"]


@pytest.mark.parametrize("expect", ["{target: openai}", "{targets: [openai]}"])
def test_a_call_that_a_rule_refuses_has_no_target(expect: str) -> None:
    [message] = failed("{team: all, model: gpt-5, used: {calls: 10}}", expect)
    assert "none, refused: rate_limit_exceeded (" in message
    assert failed("{team: all, model: gpt-5, used: {calls: 10}}", "{targets: []}") == []


def test_a_refusal_is_told_with_its_message() -> None:
    [message] = failed("{team: free, model: smart}", "{target: openai}")
    assert message.startswith('the first is none, refused: model_not_allowed (team "free" may not use')


def test_a_failing_test_is_told_with_its_name_and_place() -> None:
    text = "kind: tests\ntests: [{name: hope, given: {team: free, model: smart}, expect: {allowed: true}}]"
    [problem] = told(BASE, text)
    assert problem.startswith(
        'b.yaml:2:75: tests[0].expect.allowed: test "hope" fails: refused: model_not_allowed'
    )


def test_in_tests_all_providers_are_on() -> None:
    text = 'kind: providers\nproviders: {off: {type: openai, api_key: "${GONE:-}"}}\n---\n'
    text += "kind: models\nmodels: {m: {targets: [{provider: off}]}}\n---\nkind: tests\n"
    text += "tests: [{name: t, given: {team: all, model: m}, expect: {target: off}}]"
    assert told(BASE, text) == []


def test_in_tests_targets_count_by_place_as_if_all_were_on() -> None:
    text = 'kind: providers\nproviders: {off: {type: openai, api_key: "${GONE:-}"}}\n---\n'
    text += "kind: models\nmodels: {m: {targets: [{provider: off, model: g}, {provider: ours}]}}\n---\nkind: tests\n"
    text += "tests: [{name: t, given: {team: all, model: m}, expect: {targets: [off/g, ours]}},"
    text += " {name: u, given: {team: all, model: m, down: [off]}, expect: {targets: [ours]}}]"
    assert told(BASE, text) == []


def test_a_provider_whose_address_comes_with_its_key_is_in_nobodys_way() -> None:
    text = (
        'kind: providers\nproviders: {off: {type: azure, endpoint: "${AT:-}", api_key: "${GONE:-}"}}\n---\n'
    )
    text += "kind: tests\ntests: [{name: t, given: {team: all, model: gpt-5}, expect: {target: openai}}]"
    assert told(BASE, text) == []


def test_a_condition_that_fails_in_a_test_is_not_counted() -> None:
    counted: list[str] = []
    text = (
        "kind: models\nmodels: {m: {targets: [{provider: ours, if: metadata.x == 'y'}]}}\n---\nkind: tests\n"
    )
    text += "tests: [{name: t, given: {team: all, model: m}, expect: {refused: no_target}}]"
    snapshot(BASE, text, count=counted.append)
    assert counted == []


def test_of_several_rules_that_refuse_the_one_with_the_longest_wait_is_named() -> None:
    rules = "kind: rate-limits\nrules: [{id: short, limit: 10, unit: requests, per: second}, "
    rules += "{id: long, limit: 10, unit: requests, per: day}]"
    given = GivenSpec(team="all", model="gpt-5", used={"short": 50, "long": 10})
    assert dry_run(snapshot(BASE, rules), given).rule == "long"


def test_a_number_that_was_filled_in_is_one_in_the_body_too() -> None:
    given = GivenSpec.model_validate(
        {"team": "all", "model": "gpt-5", "request": {"max_tokens": Filled("5"), "user": "5"}}
    )
    assert given.request == {"max_tokens": 5, "user": "5"}
    assert dry_run(snapshot(BASE), given).code == ""


def test_a_caller_that_is_not_there_is_refused_as_at_the_door() -> None:
    found = snapshot(BASE)
    for who in ({"team": "nobody"}, {"key": "nobody"}, {}):
        given = GivenSpec.model_validate({**who, "model": "gpt-5"})
        run = dry_run(found, given)
        assert run.code == "invalid_api_key"
        assert run.lane is None


def test_the_user_is_the_one_given_else_that_of_the_metadata() -> None:
    found = snapshot(BASE)
    for given in (
        GivenSpec(team="all", model="gpt-5", user="ada"),
        GivenSpec(team="all", model="gpt-5", metadata={"user": "ada"}),
    ):
        exchange = dry_run(found, given).exchange
        assert exchange is not None
        assert exchange.caller.user == "ada"


def test_a_call_may_be_described_in_every_dialect_that_an_endpoint_takes() -> None:
    assert set(get_args(DialectName)) == ROUTES.keys() == DIALECTS.keys() - {"openai.raw", "gemini.array"}


BACK = {
    "openai.chat": "ours", "openai.responses": "fresh", "anthropic.messages": "claude", "cohere.chat": "co",
    "gemini.generate": "gem", "bedrock.converse": "nova", "sagemaker.chat": "sage",
}  # fmt: skip
EVERY = """kind: providers
providers:
  fresh: {type: compatible, base_url: "http://127.0.0.1:8000/v1", responses: only}
  claude: {type: anthropic, api_key: k}
  co: {type: cohere, api_key: k}
  gem: {type: gemini, api_key: k}
  nova: {type: bedrock, region: eu-central-1}
  sage: {type: sagemaker, region: eu-central-1}
---
kind: models
models:
"""


@pytest.mark.parametrize(
    "dialect", ["openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"]
)
def test_a_call_of_which_nothing_is_said_can_be_carried_everywhere(dialect: str) -> None:
    assert BACK.keys() == BACKS.keys()
    models = "".join(f"  {name}: {{targets: [{{provider: {name}}}]}}\n" for name in BACK.values())
    found = snapshot(BASE, EVERY + models)
    for name in BACK.values():
        given = GivenSpec.model_validate({"team": "all", "model": name, "dialect": dialect})
        run = dry_run(found, given)
        assert (run.code, run.dropped) == ("", [[]]), (name, run.message)


def test_a_request_that_no_json_holds_is_refused() -> None:
    given = GivenSpec(team="all", model="gpt-5", request={"seed": 2**70})
    run = dry_run(snapshot(BASE), given)
    assert "the request cannot be written as JSON" in run.message
