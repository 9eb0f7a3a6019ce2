import pytest

from gateway.config import snapshot as snapshots
from gateway.core.exchange import Caller
from gateway.core.failure import Forbidden, NoTarget, NotFound
from tests.gateway.config.texts import BASE, snapshot
from tests.gateway.policy.calls import exchange

MODELS = """\
kind: providers
providers: {p: {type: compatible, base_url: "http://127.0.0.1:1/v1"}, off: {type: openai, api_key: ""}}
---
kind: models
models:
  gpt-5: {targets: [{provider: p, model: exact}]}
  "gpt-*": {targets: [{provider: p, model: short}]}
  "gpt-5-*": {targets: [{provider: p, model: long}]}
  "*": {targets: [{provider: p, model: any}]}
  gone: {targets: [{provider: off}]}
---
kind: access
teams: {all: {models: ["*"]}, few: {models: ["gpt-*", gone]}, none: {models: []}}
---
kind: rate-limits
rules:
  - {id: mine, limit: 1, unit: concurrent, when: {keys: [k1]}}
  - {id: five, limit: 1, unit: concurrent, when: {models: ["gpt-5*"]}}
"""
ALL = Caller("k1", "all")


@pytest.mark.parametrize(
    ("asked", "answers"),
    [("gpt-5", "exact"), ("gpt-5-mini", "long"), ("gpt-4", "short"), ("claude", "any"), ("gpt-5-", "long")],
)
def test_exact_names_go_before_globs_and_the_longest_glob_first(asked: str, answers: str) -> None:
    assert [target.model for target in snapshot(MODELS).lane(ALL, asked).targets] == [answers]


def test_of_globs_of_one_length_the_one_that_says_more_goes_first() -> None:
    more = '"*": {targets: [{provider: p, model: any}]}\n'
    for glob, model in (("?", "letter"), ("?????", "five"), ("g?t-*", "odd")):
        more += f'  "{glob}": {{targets: [{{provider: p, model: {model}}}]}}\n'
    found = snapshot(MODELS.replace('"*": {targets: [{provider: p, model: any}]}\n', more))
    asked = {"x": "letter", "xx": "any", "gpt-4": "short", "got-4": "odd", "abcde": "five"}
    assert {name: found.lane(ALL, name).targets[0].model for name in asked} == asked


def test_a_lane_is_labelled_with_the_configured_name() -> None:
    found = snapshot(MODELS)
    assert found.lane(ALL, "gpt-5").model == "gpt-5"
    assert found.lane(ALL, "gpt-5-mini").model == "gpt-5-*"


def test_what_a_team_may_not_use_it_cannot_find_out_about() -> None:
    found = snapshot(BASE)
    for asked in ("smart", "no-such-model"):
        with pytest.raises(Forbidden, match='team "free" may not use the model') as caught:
            found.lane(Caller("k", "free"), asked)
        assert (caught.value.code, caught.value.param) == ("model_not_allowed", "model")


def test_what_is_not_there_or_off_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        snapshot(BASE).lane(Caller("k", "all"), "no-such-model")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(NotFound):
        snapshot(MODELS).lane(ALL, "gone")


def test_a_hostile_name_cannot_write_into_messages() -> None:
    with pytest.raises(NotFound) as caught:
        snapshot(BASE).lane(Caller("k", "all"), "a\nb\x1b[31m" + "x" * 1000)
    assert "a?b?[31m" in caught.value.message
    assert len(caught.value.message) < 200


def test_models_are_listed_by_exact_name_sorted_and_only_those_that_work() -> None:
    found = snapshot(MODELS)
    assert found.listed("all") == ["gpt-5"]
    assert found.listed("few") == ["gpt-5"]
    assert found.listed("none") == []
    assert snapshot(BASE).listed("all") == ["gpt-5", "smart"]


def test_a_lane_holds_the_rules_that_can_match_its_key_and_model() -> None:
    found = snapshot(MODELS)

    def rules(key: str, model: str) -> list[str]:
        lane = found.lane(Caller(key, "all"), model)
        call = exchange(key=key, team="all", model=model, configured=lane.model)
        return [claim.limit.rule for claim in lane.claims(call)]

    assert rules("k1", "gpt-5") == ["mine", "five"]
    assert rules("k2", "gpt-5") == ["five"]
    assert rules("k2", "gpt-5-mini") == ["five"]
    assert rules("k2", "gpt-4") == []


def test_lanes_are_made_once_and_names_invented_by_callers_make_none() -> None:
    found = snapshot(MODELS)
    assert found.lane(ALL, "gpt-5") is found.lane(ALL, "gpt-5")
    first = found.lane(ALL, "gpt-1")
    for number in range(1000):
        assert found.lane(ALL, f"gpt-x{number}") is first
    assert len(found._lanes) == 2


def test_lanes_are_bounded_however_many_keys_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MOST_LANES", 3)
    found = snapshot(MODELS)
    for number in range(10):
        assert found.lane(Caller(f"k{number}", "all"), "gpt-5").model == "gpt-5"
        assert len(found._lanes) <= 3
    assert found.lane(Caller("k9", "all"), "gpt-5") is found.lane(Caller("k9", "all"), "gpt-5")


def test_endpoints_without_a_model_go_to_the_default_or_the_named_provider() -> None:
    found = snapshot(BASE)
    lane = found.provider_lane(Caller("k", "free"))
    assert [(target.provider, target.dialect) for target in lane.targets] == [("openai", "openai.raw")]
    assert lane.model == "_other"
    [other] = found.provider_lane(Caller("k", "free"), "ours").targets
    assert other.provider == "ours"


def test_without_a_default_or_with_one_that_is_off_there_is_no_target() -> None:
    with pytest.raises(NoTarget, match="default: true"):
        snapshot(MODELS).provider_lane(ALL)
    with pytest.raises(NoTarget, match='the provider "nobody", which made'):
        snapshot(BASE).provider_lane(Caller("k", "all"), "nobody")


def test_the_rules_of_a_lane_without_model_are_those_for_any_model() -> None:
    lane = snapshot(MODELS).provider_lane(ALL, "p")
    call = exchange(key="k1", team="all", model="")
    assert [claim.limit.rule for claim in lane.claims(call)] == ["mine"]


GLOB_OF_A_PROVIDER = """\
kind: providers
providers: {openai: {type: openai, api_key: k}, b: {type: openai, api_key: k}}
---
kind: models
models:
  "openai/*": {targets: [{provider: b, model: real}, {provider: openai}]}
  _other: {targets: [{provider: b}]}
---
kind: access
teams: {all: {models: ["*"]}}
---
kind: rate-limits
rules: [{id: named, limit: 1, unit: concurrent, when: {models: [_other]}}]
"""


@pytest.mark.parametrize("files_first", [True, False])
def test_a_model_called_like_a_providers_own_lane_is_another_lane(files_first: bool) -> None:
    found = snapshot(GLOB_OF_A_PROVIDER)
    if files_first:
        found.provider_lane(ALL)
    named = [target.name for target in found.lane(ALL, "openai/gpt-5").targets]
    assert named == ["b/real", "openai/*"]
    assert [target.name for target in found.provider_lane(ALL).targets] == ["openai/*"]


@pytest.mark.parametrize("named_first", [True, False])
def test_a_model_called_like_the_lane_without_model_is_another_lane(named_first: bool) -> None:
    found = snapshot(GLOB_OF_A_PROVIDER)
    if named_first:
        found.lane(ALL, "_other")
    passing = found.provider_lane(ALL)
    assert [target.name for target in passing.targets] == ["openai/*"]
    assert passing.claims(exchange(key="k1", team="all", model="")) == []
    [claim] = found.lane(ALL, "_other").claims(exchange(key="k1", team="all", model="_other"))
    assert claim.limit.rule == "named"


def test_targets_are_those_of_models_and_globs_and_one_per_provider() -> None:
    assert snapshot(MODELS).tables.targets() == {"p/exact", "p/short", "p/long", "p/any", "p/*"}
