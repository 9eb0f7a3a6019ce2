"""Every kind of policy file has examples that load, and every field of theirs, wrong in turn, is told with its
place and a remedy. The fields come from the models, so that a new one without example fails here."""

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import yaml

from gateway.config.bench import Ground
from gateway.config.desk import compile_texts, load_policies
from gateway.config.papers import Paper, Reader
from gateway.config.problem import BadPolicies, Problem, written
from gateway.config.problem import Path as Steps
from gateway.config.schema import PAPERS, PROVIDER_MODELS, Strict
from gateway.config.variables import Variables
from tests.shared import ROOT

EXAMPLES = ROOT / "policies" / "examples"
FREE = {"request", "params"}  # what is in these is the provider's business
REMEDIES = (";", "must be", "must not be", "is missing")


def paper_of(text: str) -> Paper:
    reader = Reader("x.yaml", text, Variables({}, EXAMPLES).fill)
    [paper] = reader.papers()
    assert not reader.problems
    return paper


def example(kind: str) -> Paper:
    return paper_of((EXAMPLES / f"{kind}.yaml").read_text())


def changed(data: Any, path: Steps, value: Any) -> Any:
    """The same data with one thing replaced; `...` takes it away."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    copy = dict(data) if isinstance(data, dict) else list(data)
    if not rest and value is ...:
        del copy[step]  # type: ignore[arg-type]  # a step of a dict or of a list
    else:
        copy[step] = changed(copy[step], rest, value) if rest or step in copy else value  # type: ignore[index]
    return copy


def problems(data: Any) -> tuple[list[Problem], Paper]:
    """What is said of one document (among the other examples), written out block by block."""
    text = yaml.safe_dump(json.loads(json.dumps(data)), sort_keys=False)
    kinds = {kind: (EXAMPLES / f"{kind}.yaml").read_text() for kind in PAPERS if kind != data.get("kind")}
    kinds.pop("tests", None)
    try:
        compile_texts({"x.yaml": text, **kinds}, Ground(Path("/data")), Variables({}, EXAMPLES))
    except BadPolicies as bad:
        return [problem for problem in bad.problems if problem.place.file == "x.yaml"], paper_of(text)
    return [], paper_of(text)


def values() -> Iterator[tuple[str, Steps]]:
    """Every value of every example."""
    for kind in PAPERS:
        for path in example(kind).values:
            if path and not any(step in FREE for step in path[:-1]):
                yield kind, path


def mappings() -> Iterator[tuple[str, Steps]]:
    """Every mapping of every example that has keys of its own, not names."""
    named = {"providers", "models", "teams", "metadata", "used", "headers", *FREE}
    for kind in PAPERS:
        paper = example(kind)
        for path in paper.mappings:
            if not (path and path[-1] in named) and not any(step in FREE for step in path):
                yield kind, path


def titled(case: Any) -> str:
    return case if isinstance(case, str) else written(case) or "top"


def at(data: Any, path: Steps) -> Any:
    for step in path:
        data = data[step]
    return data


@pytest.mark.parametrize(("kind", "path"), list(values()), ids=titled)
def test_a_value_of_the_wrong_kind_is_told_at_its_place_with_a_remedy(kind: str, path: Steps) -> None:
    data = example(kind).data
    wrong = "wrong" if isinstance(at(data, path), dict) else {"wrong": 1}
    found, paper = problems(changed(data, path, wrong))
    if path == ("kind",):
        assert found[0].message.startswith("every document has a kind; add one of ")
        return
    at_place = [problem for problem in found if problem.place == paper.place(path)]
    if path[0] == "providers" and path[-1] != "type" and len(path) == 2:
        at_place = [problem for problem in found if problem.field == "type"]
    assert at_place, f"nothing is said of {written(path)}: {found}"
    for problem in at_place:
        assert any(remedy in problem.message for remedy in REMEDIES), problem


@pytest.mark.parametrize(("kind", "path"), list(mappings()), ids=titled)
def test_an_unknown_key_is_told_at_its_place(kind: str, path: Steps) -> None:
    data = example(kind).data
    inside = {**at(data, path), "surprise": 1}
    found, paper = problems(changed(data, path, inside))
    [problem] = [one for one in found if one.place == paper.place((*path, "surprise"), key=True)]
    assert problem.field == written((*path, "surprise"))
    assert problem.message.startswith("is not a key of this place; there is ")


def model_at(kind: str, path: Steps) -> type[Strict] | None:
    """The model that a mapping of a document is checked by."""
    current: Any = PAPERS[kind]
    data = example(kind).data
    for place, step in enumerate(path):
        if kind == "providers" and place == 1:
            current = PROVIDER_MODELS[at(data, path[:2])["type"]]
            continue
        if isinstance(current, type) and issubclass(current, Strict):
            fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
            current = fields[str(step)]
        else:
            current = (get_args(current) or (Any,))[-1]
        current = bare(current)
    return current if isinstance(current, type) and issubclass(current, Strict) else None


def bare(annotation: Any) -> Any:
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) in (Union, types.UnionType):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def required() -> Iterator[tuple[str, Steps]]:
    for kind in PAPERS:
        paper = example(kind)
        for path in paper.mappings:
            model = model_at(kind, path)
            for name, field in model.model_fields.items() if model else ():
                if field.is_required() and name != "kind":
                    yield kind, (*path, field.alias or name)


@pytest.mark.parametrize(("kind", "path"), list(required()), ids=titled)
def test_what_must_be_there_is_told_where_it_is_missing(kind: str, path: Steps) -> None:
    found, paper = problems(changed(example(kind).data, path, ...))
    [problem] = [one for one in found if one.field == written(path)]
    assert problem.place == paper.place(path)
    assert "add it" in problem.message


@pytest.mark.parametrize("kind", list(PAPERS))
def test_every_field_has_an_example(kind: str) -> None:
    paper = example(kind)
    shown: dict[type[Strict], set[str]] = {}
    for path in paper.mappings:
        model = model_at(kind, path)
        if model is not None:
            shown.setdefault(model, set()).update(map(str, at(paper.data, path)))
    missing = [
        f"{model.__name__}.{name}"
        for model, keys in shown.items()
        for name in (field.alias or name for name, field in model.model_fields.items())
        if name not in keys and not (kind == "providers" and any(name in other for other in shown.values()))
    ]
    assert not missing, f"policies/examples/{kind}.yaml shows no {', '.join(missing)}"


def test_the_examples_are_a_good_set_together() -> None:
    snapshot = load_policies(EXAMPLES, Ground(Path("/data")), Variables({"OPENAI_API_KEY": "sk-x"}, EXAMPLES))
    assert {"demo", "smart", "shared", "quick", "spread"} <= set(snapshot.listed("research"))


def test_each_kind_has_one_example_file() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == sorted(PAPERS)


def test_what_ships_is_good_with_and_without_a_key() -> None:
    shipped = ROOT / "policies"
    bare_set = load_policies(shipped, Ground(Path("/data")), Variables({}, shipped))
    assert bare_set.listed("default") == ["demo"]
    assert bare_set.find("gpt-5") is not None
    full = load_policies(shipped, Ground(Path("/data")), Variables({"OPENAI_API_KEY": "sk-x"}, shipped))
    found = full.find("gpt-5")
    assert found is not None
    assert [target.asked_name("gpt-5") for target in found.targets] == ["openai/gpt-5"]
    assert not full.tables.warnings
