import pytest

from gateway.core.exchange import Caller
from tests.gateway.config.texts import BASE, snapshot, told
from tests.gateway.policy.calls import exchange

HASH = "sha256:" + "0a" * 32
OTHER = "sha256:" + "0b" * 32
LINES = BASE.count("\n")


def with_base(document: str) -> str:
    return f"{BASE}---\n{document}"


def at(line: int, column: int) -> str:
    """The place in a document that follows the base; lines count from 1."""
    return f"a.yaml:{LINES + 1 + line}:{column}"


def test_keys_are_found_by_their_hash() -> None:
    found = snapshot(
        with_base(f"kind: access\nkeys: [{{name: ci, team: free, hash: '{HASH}', expires: 2027-01-01}}]")
    )
    facts = found.keys["0a" * 32]
    assert (facts.name, facts.team, facts.hash, facts.expires) == ("ci", "free", "0a" * 32, 1798761600.0)


def test_a_key_of_a_team_that_is_not_there_is_helped() -> None:
    text = with_base(f"kind: access\nkeys:\n  - {{name: ci, team: fre, hash: '{HASH}'}}")
    assert told(text) == [f'{at(3, 22)}: keys[0].team: no team named "fre"; did you mean "free"?']


@pytest.mark.parametrize(
    ("noun", "first", "second"),
    [
        ("provider", "kind: providers\nproviders: {x: {type: openai}}", ""),
        ("model", "kind: models\nmodels: {x: {targets: [{provider: ours}]}}", ""),
        ("team", "kind: access\nteams: {x: {models: []}}", ""),
        (
            "key",
            f"kind: access\nkeys: [{{name: x, team: free, hash: '{HASH}'}}]",
            f"kind: access\nkeys: [{{name: x, team: free, hash: '{OTHER}'}}]",
        ),
        ("rule", "kind: rate-limits\nrules: [{id: x, limit: 1, unit: concurrent}]", ""),
        (
            "test",
            "kind: tests\ntests: [{name: x, given: {team: all, model: smart}, expect: {allowed: true}}]",
            "",
        ),
    ],
)
def test_an_id_twice_is_an_error_that_names_both_places(noun: str, first: str, second: str) -> None:
    [problem] = told(with_base(first), "# one line more\n" + (second or first))
    place, _, message = problem.partition(f'{noun} "x" is there already, at ')
    assert place.startswith("b.yaml:3:")
    assert message.startswith(f"a.yaml:{LINES + 3}:")
    assert message.endswith("; keep one of them or rename this one")


def test_a_rule_that_an_alias_repeats_is_there_twice() -> None:
    text = "kind: rate-limits\nrules: [&r {id: x, limit: 1, unit: concurrent}, *r]"
    [problem] = told(with_base(text))
    assert 'rules[1].id: rule "x" is there already' in problem


def test_the_same_hash_under_two_names_is_an_error() -> None:
    text = "kind: access\nkeys:\n" + "".join(
        f"  - {{name: {name}, team: all, hash: '{HASH}'}}\n" for name in "ab"
    )
    assert told(with_base(text)) == [
        f'{at(4, 32)}: keys[1].hash: is the hash of key "a" too; make a key of its own'
    ]


def test_teams_have_their_cap_routes_and_condition() -> None:
    counted: list[str] = []
    team_x = "{models: [gpt-*], max_output_tokens: 9, passthrough: [evals], if: metadata.a == 'b'}"
    team = snapshot(with_base(f"kind: access\nteams: {{x: {team_x}}}"), count=counted.append).teams["x"]
    assert (team.name, team.max_output_tokens, team.passthrough) == ("x", 9, frozenset({"evals"}))
    assert team.models("gpt-9")
    assert not team.models("smart")
    assert team.condition is not None
    assert not team.condition(exchange())
    assert counted == ["teams.x"]


def test_names_that_no_model_answers_to_are_warned_of() -> None:
    text = "kind: access\nteams: {x: {models: [gpt-5, gpt-6, 'o*']}}\n---\nkind: rate-limits\n"
    text += "rules: [{id: a, limit: 1, unit: concurrent, when: {models: [smrt]}}]"
    assert snapshot(with_base(text)).tables.warnings == [
        f'{at(2, 29)}: models[1]: no model is called "gpt-6"',
        f'{at(5, 61)}: rules[0].when.models[0]: no model is called "smrt"',
    ]
    globbed = with_base("kind: models\nmodels: {'gpt-*': {targets: [{provider: ours}]}}\n---\n" + text)
    assert len(snapshot(globbed).tables.warnings) == 1


@pytest.mark.parametrize("name", ["teams", "keys", "models"])
def test_a_rule_that_never_applies_is_warned_of(name: str) -> None:
    rule = f"{{id: a, limit: 1, unit: concurrent, when: {{{name}: []}}}}"
    (warning,) = snapshot(with_base(f"kind: rate-limits\nrules: [{rule}]")).tables.warnings
    assert f"rules[0].when.{name}: is empty, so that the rule never applies" in warning


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("unit: requests", "rules[0].per: is missing; add second, minute, hour or day"),
        (
            "unit: concurrent, per: minute",
            "rules[0].per: concurrent counts calls in flight and takes no per; remove it",
        ),
        (
            "unit: concurrent, when: {teams: [fre]}",
            'rules[0].when.teams[0]: no team named "fre"; did you mean "free"?',
        ),
        (
            "unit: concurrent, if: 'tem'",
            'rules[0].if: there is no "tem"; there are request.{model, stream, max_tokens, '
            "input_tokens, messages, tools, images}, key, team, user, metadata and time",
        ),
    ],
)
def test_rules_that_cannot_be(rule: str, complaint: str) -> None:
    [problem] = told(with_base(f"kind: rate-limits\nrules: [{{id: a, limit: 1, {rule}}}]"))
    assert problem.split(": ", 1)[1] == complaint


def test_a_rule_is_compiled_whole() -> None:
    text = """\
kind: rate-limits
rules:
  - id: a
    when: {teams: ["fr*"], keys: [ci], models: [gpt-5], metadata: {env: prod, app: [x, "y*"]}}
    if: request.stream
    limit: 7
    unit: tokens
    per: hour
    for_each: [key, metadata.app]
    mode: shadow
    on_store_error: refuse
    assume_output: 3
"""
    [gate] = snapshot(with_base(text)).tables.limits
    [rule] = gate.rules
    assert tuple(
        getattr(rule.limit, name) for name in ("rule", "unit", "limit", "per", "mode", "on_store_error")
    ) == (
        "a",
        "tokens",
        7,
        3600,
        "shadow",
        "refuse",
    )
    call = exchange(team="free", key="ci", metadata={"env": "prod", "app": "yes"}, stream=True)
    assert rule.misses(call) == ""
    assert rule.claim(call, None) == (rule.limit, "ci\x1fyes", 3)
    assert (
        rule.misses(exchange(team="free", key="ci", metadata={"env": "prod", "app": "no"}))
        == "when.metadata.app"
    )


def test_each_document_of_limits_is_a_gate_of_its_own() -> None:
    rules = "[{id: a, limit: 1, unit: concurrent}, {id: b, limit: 1, unit: concurrent}]"
    one = f"kind: rate-limits\nmatch: first\nrules: {rules}"
    two = "kind: rate-limits\nrules: [{id: c, limit: 1, unit: concurrent}]"
    lane = snapshot(with_base(one), two).lane(Caller("k", "all"), "smart")
    assert [claim.limit.rule for claim in lane.claims(exchange(team="all"))] == ["a", "c"]


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        (
            "given: {team: all, key: x, model: m}, expect: {allowed: true}",
            "given: takes a key or a team, one of the two",
        ),
        ("given: {model: m}, expect: {allowed: true}", "given: takes a key or a team, one of the two"),
        (
            "given: {team: al, model: m}, expect: {allowed: true}",
            'given.team: no team named "al"; did you mean "all"?',
        ),
        (
            "given: {key: x, model: m}, expect: {allowed: true}",
            'given.key: no key named "x"; there is none yet',
        ),
        (
            "given: {team: all, model: m, down: [ors]}, expect: {allowed: true}",
            'given.down[0]: no provider named "ors"',
        ),
        (
            "given: {team: all, model: m, used: {r: 1}}, expect: {allowed: true}",
            'given.used.r: no rule named "r"',
        ),
        ("given: {team: all, model: m}, expect: {}", "expect: asks for nothing; add allowed, refused"),
        ("given: {team: all, model: m}, expect: {allowed: null}", "expect: asks for nothing; add allowed"),
        (
            "given: {team: all, model: smart, down: [ours/lama]}, expect: {allowed: true}",
            'given.down[0]: no target named "ours/lama"; did you mean "ours/llama"?',
        ),
        ("given: {team: all, model: m}, expect: {rule: r}", 'expect.rule: no rule named "r"'),
        ("given: {team: all, model: m}, expect: {limits: [r]}", 'expect.limits[0]: no rule named "r"'),
    ],
)
def test_a_test_that_would_test_nothing_is_refused(test: str, complaint: str) -> None:
    found = told(with_base(f"kind: tests\ntests: [{{name: t, {test}}}]"))
    assert any(f": tests[0].{complaint}" in line for line in found), found


def test_a_rule_error_is_counted_under_its_id() -> None:
    counted: list[str] = []
    text = "kind: rate-limits\nrules: [{id: a, limit: 1, unit: concurrent, if: metadata.x == 'y'}]"
    lane = snapshot(with_base(text), count=counted.append).lane(Caller("k", "all"), "smart")
    assert len(lane.claims(exchange(team="all"))) == 1
    assert counted == ["a"]
