import pytest

from tests.gateway.config.texts import told

TARGET = "kind: models\nmodels: {a: {targets: [{provider: p%s}]%s}}"
RULE = "kind: rate-limits\nrules: [{id: a, limit: 5, unit: requests, per: minute%s}]"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            TARGET % (", modl: x", ""),
            '2:38: targets[0].modl: is not a key of this place; did you mean "model"?',
        ),
        (
            TARGET % (", zzzzz: x", ""),
            "2:38: targets[0].zzzzz: is not a key of this place; there is capabilities, if, model, provider, weight",
        ),
        (TARGET % ("", ", hedge: {after: p95}"), "2:40: hedge: hedge is not built yet; remove it"),
        (
            TARGET % ("", ", min_speed: 5 tokens/s over 10s"),
            "2:40: min_speed: min_speed is not built yet; remove it",
        ),
        (
            TARGET % ("", ", stream_failover: continue"),
            '2:57: stream_failover: "continue" is not built yet; take one of error',
        ),
        (
            TARGET % ("", ", strategy: cheapest"),
            '2:50: strategy: "cheapest" is not built yet; take one of priority, weighted, '
            "fastest, least-busy, prefix-aware",
        ),
        (
            TARGET % ("", ", strategy: prioritty"),
            "2:50: strategy: must be one of priority, weighted, fastest, least-busy, prefix-aware; "
            'did you mean "priority"?',
        ),
        (
            TARGET % ("", ", retry: {on: [429, conect]}"),
            "2:58: retry.on[1]: must be a whole number; write it as 5, without quotes; or must be one of "
            'connect, timeout; did you mean "connect"?',
        ),
        (
            TARGET % ("", ", retry: {attemps: 2}"),
            '2:48: retry.attemps: is not a key of this place; did you mean "attempts"?',
        ),
        (TARGET % ("", ", retry: {attempts: 11}"), "2:58: retry.attempts: must be at most 10"),
        (TARGET % ("", ", retry: {attempts: 0}"), "2:58: retry.attempts: must be at least 1"),
        (TARGET % ("", ", retry: 3"), "2:47: retry: must be a mapping, as in {key: value}"),
        ("kind: models\nmodels: {a: {}}", "2:13: targets: is missing; add it"),
        ("kind: models\nmodels: {a: {targets: []}}", "2:23: targets: must not be empty; add at least one"),
        ("kind: models\nmodels: {a: 5}", "2:13: models.a: must be a mapping, as in {key: value}"),
        ("kind: models", "1:1: models: is missing; add it"),
        (
            RULE % ", when: {team: [a]}",
            '2:63: rules[0].when.team: is not a key of this place; did you mean "teams"?',
        ),
        (
            RULE % ", when: {metadata: {env: 3}}",
            "2:79: rules[0].when.metadata.env: must be text; put it in quotes; or "
            "must be a list, as in [a, b]",
        ),
        (RULE % ", when: {teams: a}", "2:70: rules[0].when.teams: must be a list, as in [a, b]"),
        (
            RULE % ", for_each: [kee]",
            "2:67: rules[0].for_each[0]: must be one of key, team, user, model, metadata.NAME",
        ),
        (RULE % ", id: 3", "2:56: rules[0].id: stands twice, first in line 2; keep one of them"),
        ("kind: access\njwt: []", "2:1: jwt: jwt is not built yet; remove it"),
        (
            "kind: access\nteams: {a: {models: ['']}}",
            "2:22: models[0]: must not be empty; write a name, or leave the key out",
        ),
        (
            "kind: providers\nproviders: {a: {type: openai, api_key: 5}}",
            "2:40: api_key: must be text; put it in quotes; or must be a list, as in [a, b]",
        ),
        (
            'kind: providers\nproviders: {a: {type: openai, default: "yes"}}',
            "2:40: default: must be true or false",
        ),
        (
            "kind: providers\nproviders: {a: {type: openai, stream_usage: leav}}",
            '2:45: stream_usage: must be one of ask, leave; did you mean "leave"?',
        ),
        ("kind: access\nteams: {a: {models: ['a\\x01']}}", ""),
    ],
)
def test_what_is_wrong_where_and_how_to_mend_it(text: str, complaint: str) -> None:
    found = told(text)
    assert f"a.yaml:{complaint}" in found if complaint else found == []


def test_a_name_with_a_control_character_is_refused_in_plain_words() -> None:
    [problem] = told('kind: access\nteams: {a: {models: ["a\\x01"]}}')
    assert problem.startswith("a.yaml:2:22: models[0]: string should match pattern")
    assert problem.endswith("; see gateway schema")


def test_a_value_that_was_filled_in_is_never_shown() -> None:
    text = 'kind: models\nmodels: {a: {targets: [{provider: p}], strategy: "${S}"}}'
    for value in ("sk-verysecret", "prioritty", "cheapest"):
        [problem] = told(text, environ={"S": value})
        assert value not in problem
