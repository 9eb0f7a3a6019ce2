from pathlib import Path

import pytest

from gateway.config.compiler import CompileOptions
from gateway.config.policies import compile_texts
from gateway.config.problem import BadPolicies
from gateway.config.schema import CapabilitiesSpec
from gateway.config.snapshot import Retry, Timeouts
from gateway.config.targets import capabilities
from gateway.config.variables import Variables
from gateway.core.capabilities import Capabilities
from gateway.core.exchange import Caller
from gateway.core.failure import Failure
from gateway.providers.models import known
from tests.gateway.config.texts import BASE, snapshot, told
from tests.gateway.policy.calls import exchange

PROVIDERS = """\
kind: providers
providers:
  openai: {type: openai, api_key: "${KEY:-}"}
  ours: {type: compatible, base_url: "http://127.0.0.1:8000/v1", stream_usage: leave}
  local: {type: local, model: bundled}
  lab: {type: local, address: "unix:/run/lab.sock"}
"""
ACCESS = "---\nkind: access\nteams: {all: {models: ['*']}}\n"
ME = Caller("k", "all")


def models(text: str) -> str:
    return f"{PROVIDERS}---\nkind: models\nmodels:\n{text}\n{ACCESS}"


def test_a_target_is_named_by_provider_and_model_and_passes_the_name_where_none_is_given() -> None:
    found = snapshot(
        models(
            "  a: {targets: [{provider: ours}, {provider: ours, model: b}]}\n  'x-*': {targets: [{provider: ours}]}"
        )
    )
    first, second = found.lane(ME, "a").targets
    assert (first.name, first.asked("a")) == ("ours/a", "a")
    assert (second.name, second.asked("a")) == ("ours/b", "b")
    [passing] = found.lane(ME, "x-1").targets
    assert (passing.name, passing.asked("x-1"), passing.asked_name("x-1")) == ("ours/*", "x-1", "ours/x-1")


def test_a_target_knows_its_provider() -> None:
    [target] = snapshot(models("  a: {targets: [{provider: ours}]}")).lane(ME, "a").targets
    assert (target.provider, target.kind, target.dialect, target.weight) == (
        "ours",
        "compatible",
        "openai.chat",
        1,
    )
    assert target.facts.origin.port == 8000
    assert not target.ask_usage


def test_a_provider_that_is_off_takes_its_targets_with_it_and_warns() -> None:
    text = models(
        "  a: {targets: [{provider: openai}, {provider: ours}]}\n  b: {targets: [{provider: openai}]}"
    )
    found = snapshot(text)
    assert [target.provider for target in found.lane(ME, "a").targets] == ["ours"]
    assert found.listed("all") == ["a"]
    assert found.tables.warnings == [
        'provider "openai" is off: its api_key is empty',
        'model "b" is not served: the providers of all its targets are off',
    ]
    on = snapshot(text, environ={"KEY": "sk-something"})
    assert on.listed("all") == ["a", "b"]
    assert not on.tables.warnings
    assert on.tables.secrets == ["sk-something"]


def test_headers_that_open_doors_are_secrets_too() -> None:
    text = "kind: providers\nproviders: {a: {type: vllm, headers: {x-key: made-by-hand, x-place: on-the-moon}}}\n"
    assert snapshot(text).tables.secrets == ["made-by-hand"]


def test_what_is_wrong_at_a_provider_that_is_off_is_told_and_what_is_missing_is_not() -> None:
    wrong = 'kind: providers\nproviders: {a: {type: openai, api_key: "", base_url: "ftp://x"}}\n'
    assert told(wrong) == ['a.yaml:2:54: base_url: must look like "https://host/v1"']
    assert not snapshot(
        'kind: providers\nproviders: {a: {type: snowflake, api_key: "", account: ""}}\n'
    ).tables.secrets


def test_a_model_that_its_provider_could_not_have_is_told_where_it_is_named() -> None:
    at_bedrock = "kind: providers\nproviders: {b: {type: bedrock, region: eu-west-1, api_key: x}}\n---\n"
    text = (
        at_bedrock
        + "kind: models\nmodels:\n  a: {targets: [{provider: b, model: 'x y'}]}\n  'c d': {targets: [{provider: b}]}\n"
    )
    named, passed = told(text)
    assert "targets[0].model: " in named
    assert '"x y" is no model of Bedrock\'s' in named
    assert '"c d" is no model of Bedrock\'s' in passed


def test_in_tests_every_provider_is_on() -> None:
    found = snapshot(models("  b: {targets: [{provider: openai}]}"), everything_on=True)
    assert found.listed("all") == ["b"]


def test_an_engine_named_by_its_model_is_to_be_started_on_a_socket_of_the_data_folder() -> None:
    found = snapshot(models("  a: {targets: [{provider: local}, {provider: lab}]}"))
    [engine] = found.tables.engines
    assert (engine.provider, engine.model, engine.socket) == ("local", "bundled", "/data/engine-local.sock")
    started, attached = found.lane(ME, "a").targets
    assert started.facts.origin.path == "/data/engine-local.sock"
    assert attached.facts.origin.path == "/run/lab.sock"


def test_the_flags_of_an_engine_may_be_filled_in() -> None:
    text = "kind: providers\nproviders: {a: {type: local, model: m, download: '${D}', max_len: '${N}'}}"
    found = compile_texts(
        {"a.yaml": text}, CompileOptions(Path("/data")), Variables({"D": "true", "N": "512"}, Path("/"))
    )
    [engine] = found.tables.engines
    assert engine.flags == ("--download", "--max-len", "512")


def test_an_engine_is_started_or_attached_to_not_both_and_not_neither() -> None:
    both = "kind: providers\nproviders:\n  a: {type: local, model: m, address: 'unix:/x'}\n  b: {type: local}"
    first, second = told(both)
    assert first == "a.yaml:3:39: address: model and address exclude each other; keep one"
    assert second.startswith('a.yaml:4:6: address: give "model" to have an engine started')


def test_a_socket_path_that_no_system_takes_is_refused() -> None:
    text = {"a.yaml": "kind: providers\nproviders: {a: {type: local, model: m}}"}
    with pytest.raises(BadPolicies, match="set GATEWAY_DATA_DIR to a shorter one"):
        compile_texts(text, CompileOptions(Path("/" + "x" * 100)), Variables({}, Path("/")))


def test_faults_that_only_the_adapter_sees_have_their_place() -> None:
    text = (
        "kind: providers\nproviders:\n  a: {type: compatible, base_url: 'ftp://x'}\n  b: {type: compatible}\n"
    )
    text += "  c: {type: openai, api_key: k, headers: {Host: x}}\n"
    text += "  d: {type: openai, api_key: k, headers: {X-A: b, Authorization: x}}"
    found = told(text)
    assert found[0] == 'a.yaml:3:35: base_url: must look like "https://host/v1"'
    assert found[1].startswith("a.yaml:4:6: base_url: is missing; give the address")
    assert found[2].startswith("a.yaml:5:42: headers: Host is set by the gateway itself")
    assert found[3].startswith("a.yaml:6:66: headers.Authorization: would stand twice, as the gateway shows")


def test_one_provider_alone_is_the_default() -> None:
    text = (
        "kind: providers\nproviders:\n  a: {type: openai, default: true}\n  b: {type: openai, default: true}"
    )
    assert told(text) == ["a.yaml:4:30: default: another provider is the default; mark one alone"]


@pytest.mark.parametrize(
    ("extra", "default"),
    [("", "openai"), ("  z: {type: compatible, base_url: 'http://h/v1', default: true}", "z")],
)
def test_the_default_is_the_one_marked_else_the_first_openai(extra: str, default: str) -> None:
    assert snapshot(PROVIDERS + extra, environ={"KEY": "k"}).tables.default_provider == default


@pytest.mark.parametrize(
    ("providers", "default"),
    [
        ("{a: {type: openai, api_key: ''}, b: {type: openai, api_key: k}}", "b"),
        ("{a: {type: mistral, api_key: '', default: true}, b: {type: openai, api_key: k}}", "b"),
        ("{a: {type: openai, api_key: ''}}", ""),
    ],
)
def test_a_provider_that_is_off_is_no_default(providers: str, default: str) -> None:
    assert snapshot(f"kind: providers\nproviders: {providers}").tables.default_provider == default


def test_numbers_that_were_filled_in_stand_in_params_as_numbers() -> None:
    params = '{temperature: "${T}", stop: ["${S}"], logit_bias: {a: "${N}"}}'
    text = f"kind: providers\nproviders: {{a: {{type: openai, api_key: k, params: {params}}}}}"
    found = snapshot(text, environ={"T": "0.5", "S": "x", "N": "7"}).tables.providers["a"]
    assert found.facts.params == {"temperature": 0.5, "stop": ["x"], "logit_bias": {"a": 7}}


@pytest.mark.parametrize(
    "field",
    ["background", "content", "contents", "conversation", "input", "messages", "model", "previous_response_id",
     "prompt", "query", "requests", "stream", "stream_options"],
)  # fmt: skip
def test_what_is_each_calls_own_can_be_no_default(field: str) -> None:
    kind = "kind: providers\nproviders:\n"
    text = f"{kind}  a: {{type: openai, api_key: k, params: {{seed: 7, {field}: {{}}}}}}"
    assert told(text) == [f"a.yaml:3:51: params.{field}: is each call's own and can be no default; remove it"]


def test_the_container_of_an_endpoint_of_sagemakers_may_be_told_a_model() -> None:
    text = "kind: providers\nproviders: {a: {type: sagemaker, region: eu-central-1, params: {model: tgi}}}"
    assert snapshot(text).tables.providers["a"].facts.params == {"model": "tgi"}


def test_a_target_takes_one_models_name_and_no_glob() -> None:
    [problem] = told(models("  a: {targets: [{provider: ours, model: 'gpt-*'}]}"))
    assert "targets[0].model: is one model's name and takes no glob; leave it out to pass" in problem


def test_without_either_there_is_no_default() -> None:
    text = "kind: providers\nproviders: {a: {type: compatible, base_url: 'http://h/v1'}}"
    assert snapshot(text).tables.default_provider == ""


def test_a_provider_that_is_not_there_is_helped() -> None:
    [problem] = told(models("  a: {targets: [{provider: oprs}]}"))
    assert problem == 'a.yaml:10:28: targets[0].provider: no provider named "oprs"; did you mean "ours"?'


def test_weight_belongs_to_weighted_alone() -> None:
    found = snapshot(
        models("  a: {strategy: weighted, targets: [{provider: ours, weight: 9}, {provider: lab}]}")
    )
    assert [target.weight for target in found.lane(ME, "a").targets] == [9, 1]
    [problem] = told(models("  a: {targets: [{provider: ours, weight: 9}]}"))
    assert (
        problem
        == "a.yaml:10:42: targets[0].weight: belongs to strategy: weighted alone; remove it, or set the strategy"
    )


def test_retries_and_timeouts_are_what_the_file_says_and_have_defaults() -> None:
    lane = snapshot(models("  a: {targets: [{provider: ours}]}")).lane(ME, "a")
    assert lane.retry.attempts == 2
    assert lane.retry.statuses == {429, 500, 502, 503, 504, *range(520, 525), 529}
    assert lane.retry.failures == {Failure.UNREACHABLE, Failure.TIMED_OUT}
    assert lane.retry.budget == 0.2
    assert lane.timeouts == Timeouts(2.0, 60.0, 60.0, 600.0)
    said = "retry: {attempts: 3, on: [503, connect], budget: 5%}, timeouts: {connect: 500ms, total: 1m}"
    lane = snapshot(models(f"  a: {{targets: [{{provider: ours}}], {said}}}")).lane(ME, "a")
    assert lane.retry == Retry(3, frozenset({503}), frozenset({Failure.UNREACHABLE}), 0.05)
    assert lane.timeouts == Timeouts(0.5, 60.0, 60.0, 60.0)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_the_calls_own_faults_never_lead_on(status: int) -> None:
    [problem] = told(models(f"  a: {{targets: [{{provider: ours}}], retry: {{on: [{status}]}}}}"))
    assert f"retry.on[0]: {status} is the call's own fault and never leads on; remove it" in problem


def test_a_condition_of_a_target_is_compiled_and_its_errors_are_counted_under_the_model() -> None:
    counted: list[str] = []
    text = models("  a: {targets: [{provider: ours, if: \"metadata.env == 'prod'\"}]}")
    [target] = snapshot(text, count=counted.append).lane(ME, "a").targets
    assert target.condition is not None
    assert target.condition(exchange(metadata={"env": "prod"}))
    assert not target.condition(exchange(metadata={"env": "test"}))
    assert not counted
    assert not target.condition(exchange())
    assert counted == ["models.a"]


def test_a_condition_that_is_wrong_has_its_place_inside_the_text() -> None:
    [problem] = told(models('  a: {targets: [{provider: ours, if: "request.strem"}]}'))
    assert problem.startswith(
        'a.yaml:10:46: targets[0].if: there is no "request.strem"; there are request.{model, '
    )


def test_the_base_of_these_tests_is_good() -> None:
    assert snapshot(BASE).listed("all") == ["gpt-5", "smart"]


def test_what_a_model_can_do_is_the_tables_word_then_the_providers_then_the_targets() -> None:
    none, audio = CapabilitiesSpec(), CapabilitiesSpec(audio=True, context=5)
    assert capabilities("nobody-knows-it", none, none) is None
    assert capabilities("nobody-knows-it", CapabilitiesSpec(tools=False), none) == Capabilities(tools=False)
    table = known("gpt-4o")
    assert table is not None
    assert capabilities("gpt-4o", none, none) == table
    assert capabilities("gpt-4o", CapabilitiesSpec(context=7, images=False), audio) == table._replace(
        images=False, audio=True, context=5
    )
