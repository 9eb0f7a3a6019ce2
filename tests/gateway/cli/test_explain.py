import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.state.database import Database
from gateway.state.keystore import KeyStore
from tests.shared import ROOT
from tests.users import folder_for_all, only_read, ordinary

EXAMPLES = str(ROOT / "policies" / "examples")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")


def test_an_allowed_call_is_told_with_rules_limits_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", EXAMPLES, "--key", "ci", "--model", "smart", "--metadata", "app=chat"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "allowed"
    assert lines[1].startswith("team research, model smart, policies ")
    assert "  per-key: matches" in lines
    assert "  free-tokens: no: when.teams" in lines
    assert "  per-key: takes 1 of 600 requests per 60 s, bucket ci" in lines
    assert "  per-user: takes 1 of 10000 requests per 86400 s, bucket (none) / chat, shadow" in lines
    assert lines[-3:] == ["  1. openai/gpt-5", "  2. our-vllm/llama-3.3-70b", "  3. local/smart"]


def test_the_body_of_a_request_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "body.json").write_text('{"max_tokens": 9000, "messages": []}')
    arguments = [
        "explain",
        EXAMPLES,
        "--team",
        "research",
        "--model",
        "smart",
        "--request",
        str(tmp_path / "body.json"),
    ]
    assert main(arguments) == 0
    assert (
        "  -. our-vllm/llama-3.3-70b  (not tried: its if does not hold)"
        in capsys.readouterr().out.splitlines()
    )


def test_a_body_may_be_in_any_dialect_and_fields_that_are_in_the_way_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("""
kind: providers
providers: {claude: {type: anthropic, api_key: k}, ours: {type: compatible, base_url: "http://127.0.0.1:1/v1"}}
---
kind: models
models: {m: {targets: [{provider: claude}, {provider: ours}]}}
---
kind: access
teams: {all: {models: ["*"]}}
""")
    (tmp_path / "body.json").write_text('{"input": "hi", "top_logprobs": 2}')
    arguments = ["explain", str(tmp_path), "--team", "all", "--model", "m"]
    arguments += ["--request", str(tmp_path / "body.json"), "--dialect", "openai.responses"]
    assert main(arguments) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first == "  1. ours/m"
    assert second.startswith(
        "  2. claude/m  (not sooner: 'top_logprobs' cannot be carried over to Anthropic's"
    )
    assert second.endswith("; without top_logprobs)")


def test_a_target_that_is_off_is_told_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert main(["explain", EXAMPLES, "--team", "research", "--model", "smart"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "  -. openai/gpt-5  (not tried: its provider is off: its api_key is empty)"


def test_a_refused_call_is_told_and_the_answer_is_no(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", EXAMPLES, "--team", "free", "--model", "gpt-5"]) == 1
    out = capsys.readouterr().out
    assert out.startswith('refused: model_not_allowed: team "free" may not use the model "gpt-5"')


def test_machines_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", EXAMPLES, "--team", "free", "--model", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["allowed"] is True
    assert [target["target"] for target in found["targets"]] == ["local/demo"]


def test_bad_policies_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("kind: nope")
    assert main(["explain", str(tmp_path), "--team", "a", "--model", "m"]) == 1
    assert "a.yaml:1:7: kind: there is no kind" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--team", "nobody", "--model", "m"], 'there is no team "nobody"; there is free, nightly, research'),
        (
            ["--key", "nobody", "--model", "m"],
            'no key "nobody" stands in the policy files or is in use among those that were made at run time, as '
            "GATEWAY_DATA_DIR or GATEWAY_DATABASE_URL has them; point these there, or give its --team",
        ),
        (["--team", "free", "--model", "m", "--metadata", "x"], '--metadata takes K=V, not "x"'),
        (["--team", "free", "--model", "m", "--request", "/nowhere/x.json"], "No such file"),
        (["--team", "free", "--key", "ci", "--model", "m"], "not allowed with argument"),
        (["--model", "m"], "one of the arguments --key --team is required"),
        (["--team", "free"], "the following arguments are required: --model"),
        (["--team", "free", "--model", ""], "--model takes 1 to 256 characters"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", EXAMPLES, *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_bad_policies_are_json_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("kind: nope")
    assert main(["explain", str(tmp_path), "--team", "a", "--model", "m", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], [row["line"] for row in told["problems"]]) == (False, [1])


def test_a_number_that_no_machine_word_holds_goes_on_as_it_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "body.json").write_text('{"messages": [], "seed": 184467440737095516160}')
    arguments = ["--team", "research", "--model", "demo", "--request", str(tmp_path / "body.json")]
    assert main(["explain", EXAMPLES, *arguments]) == 0
    assert capsys.readouterr().out.startswith("allowed")


def test_a_key_that_has_expired_is_refused_as_it_would_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(
        f"""
kind: providers
providers: {{ours: {{type: compatible, base_url: "http://127.0.0.1:1/v1"}}}}
---
kind: models
models: {{m: {{targets: [{{provider: ours}}]}}}}
---
kind: access
teams: {{all: {{models: ["*"]}}}}
keys: [{{name: old, team: all, hash: "sha256:{"0" * 64}", expires: 2020-01-01}}]
---
kind: tests
tests: [{{name: files are tried without a clock, given: {{key: old, model: m}}, expect: {{allowed: true}}}}]
"""
    )
    assert main(["explain", str(tmp_path), "--key", "old", "--model", "m"]) == 1
    assert capsys.readouterr().out.startswith('refused: invalid_api_key: the key "old" has expired')


async def test_a_look_for_keys_made_at_run_time_takes_the_right_to_read_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_for_all() as papers, folder_for_all() as data_dir:
        shutil.copytree(EXAMPLES, papers, dirs_exist_ok=True)
        monkeypatch.setenv("GATEWAY_DATA_DIR", str(data_dir))
        with closing(Database(f"sqlite:///{data_dir}/gatehouse.db")) as database:
            await KeyStore(database, lambda: 0.0, lambda level, message: None).create("mine", "research")
        arguments = ["explain", str(papers), "--key", "mine", "--model", "smart"]
        assert main(arguments) == 0
        told = capsys.readouterr().out
        with only_read(data_dir):
            assert main(arguments) == 0
        assert capsys.readouterr().out == told
        data_dir.chmod(0)
        with ordinary():
            assert main(arguments) == 2
        assert "Permission denied" in capsys.readouterr().err


def test_a_look_for_keys_made_at_run_time_makes_no_database_and_says_what_is_wrong_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path))
    arguments = ["explain", EXAMPLES, "--key", "nobody", "--model", "smart"]
    assert main(arguments) == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "gatehouse.db").write_bytes(b"garbage" * 1000)
    capsys.readouterr()
    assert main(arguments) == 2
    assert "gatehouse.db (in GATEWAY_DATA_DIR) cannot be used (file is not" in capsys.readouterr().err


@pytest.mark.parametrize("body", ["[1]", "{", "\xff"])
def test_a_body_that_is_none_is_told(tmp_path: Path, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "body.json").write_text(body, encoding="latin-1")
    arguments = [
        "explain",
        EXAMPLES,
        "--team",
        "free",
        "--model",
        "demo",
        "--request",
        str(tmp_path / "body.json"),
    ]
    assert main(arguments) == 2
    assert "body.json: " in capsys.readouterr().err
