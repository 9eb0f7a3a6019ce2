import json
from pathlib import Path

import jsonschema
import pytest

from gateway.config.json_schema import json_schema
from gateway.config.papers import Reader
from tests.shared import ROOT

POLICIES = ROOT / "policies"
FILES = [POLICIES / "gateway.yaml", *sorted((POLICIES / "examples").glob("*.yaml"))]


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def test_the_schema_that_ships_is_the_one_of_the_models() -> None:
    shipped = json.loads((POLICIES / "schema.json").read_text())
    assert shipped == json_schema(), "run: gateway schema > policies/schema.json"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_ships_passes_the_schema(path: Path) -> None:
    reader = Reader("f", path.read_text(), lambda text: text)
    papers = reader.papers()
    assert papers, reader.problems
    for paper in papers:
        validator().validate(paper.data)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "access", "teams": {"a": {"models": ["*"], "max_output_tokens": "${CAP:-100}"}}},
        {"kind": "rate-limits", "rules": [{"id": "a", "limit": "${N}", "unit": "${U}", "per": "minute"}]},
        {"kind": "models", "models": {"a": {"targets": [{"provider": "p"}], "timeouts": {"total": "${T}"}}}},
        {"kind": "providers", "providers": {"a": {"type": "openai", "default": "${D:-false}"}}},
    ],
)
def test_a_value_may_be_written_as_a_variable(document: object) -> None:
    validator().validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "acess"},
        {"kind": "access", "team": {}},
        {"kind": "access", "teams": {"a": {"models": "*"}}},
        {"kind": "rate-limits", "rules": [{"id": "a", "limit": "5", "unit": "requests"}]},
        {"kind": "rate-limits", "rules": [{"id": "a", "limit": 5, "unit": "request"}]},
        {"kind": "rate-limits", "rules": [{"id": "a", "limit": 0, "unit": "requests"}]},
        {"kind": "models", "models": {"a": {"targets": [{"provider": "p"}], "retry": {"attempts": 11}}}},
        {"kind": "models", "models": {"a": {"targets": [{"provider": "p"}], "timeouts": {"total": 5}}}},
        {"kind": "models", "models": {"a": {"targets": [{"provider": "p", "modle": "x"}]}}},
        {"kind": "providers", "providers": {"a": {"type": "azure"}}},
        {"kind": "providers", "providers": {"a": {"type": "openai", "addres": "x"}}},
    ],
)
def test_what_check_refuses_an_editor_underlines(document: object) -> None:
    assert not validator().is_valid(document)
