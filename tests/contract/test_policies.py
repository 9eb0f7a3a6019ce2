"""The policies that ship, and one example file of each kind, are good as they stand."""

from pathlib import Path

from gateway.config.compiler import CompileOptions
from gateway.config.policies import load_policies
from gateway.config.schema import PAPERS
from gateway.config.variables import Variables
from tests.shared import ROOT

EXAMPLES = ROOT / "policies" / "examples"


def test_the_examples_are_a_good_set_together() -> None:
    snapshot = load_policies(
        EXAMPLES, CompileOptions(Path("/data")), Variables({"OPENAI_API_KEY": "sk-x"}, EXAMPLES)
    )
    assert {"demo", "smart", "shared", "quick", "spread"} <= set(snapshot.listed("research"))


def test_each_kind_has_one_example_file() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == sorted(PAPERS)


def test_what_ships_is_good_with_and_without_a_key() -> None:
    shipped = ROOT / "policies"
    bare_set = load_policies(shipped, CompileOptions(Path("/data")), Variables({}, shipped))
    assert bare_set.listed("default") == ["demo"]
    assert bare_set.find("gpt-5") is not None
    full = load_policies(
        shipped, CompileOptions(Path("/data")), Variables({"OPENAI_API_KEY": "sk-x"}, shipped)
    )
    found = full.find("gpt-5")
    assert found is not None
    assert [target.asked_name("gpt-5") for target in found.targets] == ["openai/gpt-5"]
    assert not full.tables.warnings
