"""Every field of the generated schema, wrong in turn in the example files, as `gateway check` tells it: exit code 1,
and a line with the file, line and column, the field, what is wrong and how to mend it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gateway.cli.main import main
from gateway.config.json_schema import json_schema
from gateway.config.papers import Paper, Reader
from gateway.config.problem import Path as Steps
from gateway.config.problem import written
from gateway.config.schema import PAPERS
from tests.shared import ROOT

Schema = dict[str, Any]
Check = Callable[[str, Steps, object], None]
SCHEMA: Schema = json_schema()
EXAMPLES = ROOT / "policies" / "examples"
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where there is one
GONE = object()  # in place of a value: the key is taken away
LINE = re.compile(r"([^:\n]+\.yaml:\d+:\d+): (?:([^ ]+): )?(.+)")
# A message says what to do, or what a value must be.
REMEDY = re.compile(r"; |must (not )?be |is missing")
SAMPLES = {
    "null": None, "boolean": True, "integer": 5, "number": 1.5, "string": "surprise", "array": ["surprise"],
    "object": {"surprise": 1},
}  # fmt: skip
# Names of what stands elsewhere in the policies. Models are not among them: they may come later.
REFERENCES = {
    ("TargetSpec", "provider"), ("KeySpec", "team"), ("WhenSpec", "teams"), ("GivenSpec", "key"),
    ("GivenSpec", "team"), ("GivenSpec", "down"), ("ExpectSpec", "rule"), ("ExpectSpec", "limits"),
}  # fmt: skip


class Spot(NamedTuple):
    """A place of an example, and what may stand there; `field` is which one of which definition."""

    kind: str
    path: Steps
    field: tuple[str, str]
    schema: Schema
    data: Any


def paper_of(text: str) -> Paper:
    """With ${VAR} as it is written."""
    [paper] = Reader("x.yaml", text, str).papers()
    return paper


def choices(schema: Schema, data: Any) -> Iterator[tuple[str, Schema]]:
    """What may stand there, with the name of its definition; ${VAR}, which may stand for most, left out."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        yield name, SCHEMA["$defs"][name]
    elif "oneOf" in schema:  # a provider: the one of its type
        for choice in schema["oneOf"]:
            [(_, one)] = choices(choice, data)
            if one["properties"]["type"]["const"] == data["type"]:
                yield "Provider", one
    elif "anyOf" in schema:
        for choice in schema["anyOf"]:
            if choice.get("pattern") != r"\$\{":
                yield from choices(choice, data)
    else:
        yield "", schema


def spots(kind: str, path: Steps, field: tuple[str, str], schema: Schema, data: Any) -> Iterator[Spot]:
    """This place and all that is inside it."""
    yield Spot(kind, path, field, schema, data)
    for owner, one in choices(schema, data):
        named = one.get("patternProperties", {"": one.get("additionalProperties")})
        if isinstance(data, list) and "items" in one:
            for place, item in enumerate(data):
                yield from spots(kind, (*path, place), field, one["items"], item)
        elif isinstance(data, dict) and "properties" in one:
            for name in data:
                yield from spots(kind, (*path, name), (owner, name), one["properties"][name], data[name])
        elif isinstance(data, dict):
            for name, item in data.items() if isinstance(inner := next(iter(named.values())), dict) else ():
                yield from spots(kind, (*path, name), field, inner, item)


def definition(kind: str) -> Schema:
    [found] = [
        one for one in SCHEMA["oneOf"] if next(choices(one, None))[1]["properties"]["kind"]["const"] == kind
    ]
    return dict(found)


DATA = {
    kind: json.loads(json.dumps(paper_of((EXAMPLES / f"{kind}.yaml").read_text()).data)) for kind in PAPERS
}
SPOTS = [spot for kind in PAPERS for spot in spots(kind, (), ("", ""), definition(kind), DATA[kind])]


def wrong_values(spot: Spot) -> Iterator[Any]:
    """Of each type that may not stand there, and just past each bound."""
    allowed = [one for _, one in choices(spot.schema, spot.data)]
    types = {one["type"] for one in allowed}
    if "number" in types:
        types.add("integer")
    yield from (sample for name, sample in SAMPLES.items() if name not in types)
    for one in allowed:
        if (
            "const" in one
            or "enum" in one
            or ("pattern" in one and re.search(one["pattern"], "surprise") is None)
        ):
            yield "surprise"
        if one.get("minLength"):
            yield ""
        if "maxLength" in one:
            yield "x" * (one["maxLength"] + 1)
        if one.get("minItems"):
            yield []
        if "minimum" in one:
            yield one["minimum"] - 1
        if "maximum" in one:
            yield one["maximum"] + 1
    if spot.field in REFERENCES and "array" not in types:
        yield "nobody-is-called-that"


def fields() -> Iterator[Spot]:
    """Where each field stands first; for providers, in each of them."""
    seen = set()
    for spot in SPOTS:
        known = (spot.field, json.dumps(spot.schema), spot.path[:2] if spot.kind == "providers" else ())
        if spot.path and spot.path != ("kind",) and known not in seen:
            seen.add(known)
            yield spot


def definitions() -> Iterator[tuple[Spot, Schema]]:
    """Where each definition stands first."""
    seen = set()
    for spot in SPOTS:
        for _, one in choices(spot.schema, spot.data):
            if "properties" in one and one["title"] not in seen:
                seen.add(one["title"])
                yield spot, one


def changed(data: Any, path: Steps, value: Any) -> Any:
    """The same data with one thing in another's place."""
    step, rest = path[0], path[1:]
    copy = dict(data) if isinstance(data, dict) else list(data)
    if not rest and value is GONE:
        del copy[step]  # type: ignore[arg-type]  # a step of a dict or of a list
    else:
        copy[step] = changed(copy[step], rest, value) if rest else value  # type: ignore[index]
    return copy


@pytest.fixture(scope="module")
def keys() -> Iterator[None]:
    """All providers of the examples are on."""
    with pytest.MonkeyPatch.context() as patch:
        for text in (EXAMPLES / "providers.yaml").read_text().split("${")[1:]:
            name, _, default = text.partition("}")[0].partition(":-")
            if not default and name != "VERTEX_ACCOUNT":
                patch.setenv(name, "a-key-of-these-tests")
        yield


def copy_examples(folder: Path) -> None:
    for kind in PAPERS:
        (folder / f"{kind}.yaml").write_text((EXAMPLES / f"{kind}.yaml").read_text())


@pytest.fixture(scope="module")
def folder(keys: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of which nothing is said before something in it is wrong."""
    made = tmp_path_factory.mktemp("policies")
    copy_examples(made)
    assert main(["check", str(made)]) == 0
    return made


@pytest.fixture
def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    def one(kind: str, path: Steps, wrong: object) -> None:
        """This value there, among the other examples, is told of with its place, its field and a remedy."""
        mine = folder / f"{kind}.yaml"
        mine.write_text(yaml.dump(changed(DATA[kind], path, wrong), Dumper=DUMPER, sort_keys=False))
        assert main(["check", str(folder)]) == 1, f"nothing is said of {wrong!r}"
        told = capsys.readouterr().out
        lines = [LINE.fullmatch(line) for line in told.splitlines()]
        assert all(line is not None and REMEDY.search(line[3]) for line in lines), f"{wrong!r}: {told}"
        place = paper_of(mine.read_text()).place(path, key=path[-1] == "surprise")
        known = [(line[1], line[2]) for line in lines if line is not None]
        assert (f"{mine}:{place.line}:{place.column}", written(path)) in known, f"{wrong!r}: {told}"

    copy_examples(folder)
    return one


def title(case: Any) -> str | None:
    return f"{case.kind}-{written(case.path) or 'top'}" if isinstance(case, Spot) else ""


@pytest.mark.parametrize("spot", list(fields()), ids=title)
def test_a_wrong_value_is_told_with_its_place_and_a_remedy(spot: Spot, check: Check) -> None:
    for wrong in wrong_values(spot):
        check(spot.kind, spot.path, wrong)


@pytest.mark.parametrize(("spot", "one"), list(definitions()), ids=title)
def test_a_key_too_many_or_missing_is_told_with_its_place_and_a_remedy(
    spot: Spot, one: Schema, check: Check
) -> None:
    check(spot.kind, (*spot.path, "surprise"), 1)
    for name in one.get("required", []):
        check(spot.kind, (*spot.path, name), GONE)


def test_the_examples_show_every_field_of_the_schema() -> None:
    """What is added to the schema and not shown would be tried by none of the cases above."""
    shown = {spot.field for spot in SPOTS}
    missing = {
        ("Provider" if "type" in one["properties"] else name, field)
        for name, one in SCHEMA["$defs"].items()
        for field in one["properties"]
    } - shown
    assert not missing, (
        f"policies/examples shows no {', '.join(f'{owner}.{name}' for owner, name in missing)}"
    )
