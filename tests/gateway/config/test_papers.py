from pathlib import Path

import pytest

from gateway.config.papers import DEEPEST, Paper, Reader
from gateway.config.problem import Place
from gateway.config.variables import Variables


def read(text: str, environ: dict[str, str] | None = None) -> tuple[list[Paper], list[str]]:
    reader = Reader("f.yaml", text, Variables(environ or {}, Path("/nowhere")).fill)
    papers = reader.papers()
    return papers, [str(problem) for problem in reader.problems]


def data(text: str, environ: dict[str, str] | None = None) -> object:
    papers, problems = read(text, environ)
    assert not problems
    return papers[0].data


def test_every_value_and_key_has_its_place() -> None:
    [paper], _ = read("a: 1\nb:\n  - {c: x}\n  - y\n")
    assert paper.data == {"a": 1, "b": [{"c": "x"}, "y"]}
    assert paper.place(("b", 0, "c")) == Place("f.yaml", 3, 9)
    assert paper.place(("b", 0, "c"), key=True) == Place("f.yaml", 3, 6)
    assert paper.place(("b", 1)) == Place("f.yaml", 4, 5)


def test_a_variable_in_a_key_is_told() -> None:
    _, problems = read("a:\n  ${B}: 1\n", {"B": "b"})
    assert problems == ["f.yaml:2:3: a.${B}: is not filled in, for it is a key; write it out"]


def test_what_is_missing_has_the_place_of_what_is_around_it() -> None:
    [paper], _ = read("a: {b: 1}\n")
    assert paper.place(("a", "gone", 3)) == Place("f.yaml", 1, 4)
    assert Paper(None, "x.yaml").place(("a",)) == Place("x.yaml", 1, 1)


def test_documents_are_apart_and_empty_ones_are_none() -> None:
    papers, problems = read("# nothing\n---\na: 1\n---\n---\nb: 2\n")
    assert [paper.data for paper in papers] == [{"a": 1}, {"b": 2}]
    assert not problems
    assert papers[1].place(("b",)).line == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("no", "no"),
        ("12", 12),
        ("-7", -7),
        ("010", 10),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("~", None),
        ("null", None),
        ('""', ""),
        ('"12"', "12"),
        ("20%", "20%"),
        ("2027-01-01", "2027-01-01"),
        ("0x10", "0x10"),
        ("!!str 12", "12"),
        ("9" * 40, 1e40),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = data(f"a: {text}")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


def test_the_key_on_is_a_word() -> None:
    assert data("on: [429]") == {"on": [429]}


def test_anchors_stand_for_what_they_name() -> None:
    assert data("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


def test_what_is_filled_in_plain_is_what_it_looks_like_and_in_quotes_it_is_text() -> None:
    environ = {"N": "600", "B": "true", "W": "truth"}
    assert data('a: ${N}\nb: "${N}"\nc: ${B}\nd: ${M:-}\ne: ${M:-7}\nf: ${W}', environ) == {
        "a": 600,
        "b": "600",
        "c": True,
        "d": "",
        "e": 7,
        "f": "truth",
    }


def test_a_problem_never_shows_what_was_filled_in() -> None:
    [paper], _ = read('a: {b: "${SECRET}"}', {"SECRET": "sk-12345"})
    assert str(paper.problem(("a", "b"), 'no "sk-12345" here')) == 'f.yaml:1:8: a.b: no "***" here'
    assert "sk-12345" not in str(paper.problem(("a",), "sk-12345"))


@pytest.mark.parametrize(
    ("value", "message", "told"),
    [
        ("10", "must be at most 100%", "must be at most 100%"),
        ("10", 'no provider named "10" among 10', 'no provider named "***" among 10'),
        ("a", "'a' is no name of a header", "'***' is no name of a header"),
        ("abcd", "what xabcdx is", "what x***x is"),
    ],
)
def test_a_short_value_that_was_filled_in_leaves_other_words_whole(
    value: str, message: str, told: str
) -> None:
    [paper], _ = read("a: ${V}\n", {"V": value})
    assert paper.problem(("a",), message).message == told


def test_a_problem_inside_a_one_line_text_has_its_column() -> None:
    [paper], _ = read("a: xyz\nb: 'xyz'\nc: |\n  xyz\nd: ${V:-x}\n")
    assert paper.problem_inside(("a",), 1, 3, "").place == Place("f.yaml", 1, 6)
    assert paper.problem_inside(("b",), 1, 3, "").place == Place("f.yaml", 2, 7)
    assert paper.problem_inside(("b",), 2, 1, "").place == Place("f.yaml", 2, 4)
    assert paper.problem_inside(("c",), 1, 3, "").place == Place("f.yaml", 3, 4)
    assert paper.problem_inside(("d",), 1, 1, "").place == Place("f.yaml", 5, 4)


def test_a_key_twice_is_an_error_with_both_lines() -> None:
    papers, problems = read("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert problems == [
        "f.yaml:2:11: b.c: stands twice, first in line 2; keep one of them",
        "f.yaml:3:1: a: stands twice, first in line 1; keep one of them",
    ]
    assert papers[0].data == {"a": 1, "b": {"c": 1}}


def test_a_key_that_is_no_word_is_an_error() -> None:
    assert read("a: {[1]: 2}")[1] == ["f.yaml:1:5: a: a key must be a plain word; put it in quotes"]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/object:os.system {x: 1}",
        "a: !!python/name:os.system",
        "a: !mine x",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: !!timestamp 2027-01-01",
    ],
)
def test_tags_beyond_the_core_are_refused(text: str) -> None:
    _, [problem] = read(text)
    assert problem.startswith("f.yaml:1:4: a: the tag ")
    assert problem.endswith("is not allowed; write plain YAML")


@pytest.mark.parametrize("text", ["a: !!int x", "a: !!float x"])
def test_a_tag_that_lies_is_an_error(text: str) -> None:
    assert read(text)[1] == ["f.yaml:1:4: a: is not what its tag says; leave the tag out"]


def test_a_variable_that_is_missing_is_an_error_at_its_place() -> None:
    assert read("a:\n  b: ${GONE}")[1] == [
        "f.yaml:2:6: a.b: the variable GONE is not set; set it, or write ${GONE:-} if it may be absent"
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2\nb: 3", "2:2"),
        ("a: 1\n\tb: 2", "2:1"),
        ("a: *gone", "1:4"),
        ("a: 'x", "1:6"),
        ("a: b: c", "1:5"),
    ],
)
def test_what_is_no_yaml_says_where(text: str, place: str) -> None:
    _, [problem] = read(text)
    assert problem.startswith(f"f.yaml:{place}: this is not YAML: ")
    assert problem.endswith("; check indentation and quotes")


def test_control_characters_are_no_yaml() -> None:
    assert read("a: \x00")[1] == ["f.yaml:1:1: this is not YAML: it holds control characters; remove them"]


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    _, [problem] = read("\n".join(lines))
    assert "aliases expand to more than can be read; write it out" in problem


def test_an_alias_of_itself_is_refused() -> None:
    _, [problem] = read("a: &a [*a]")
    assert "aliases expand to more than can be read" in problem or "this is not YAML" in problem


def test_depth_is_bounded_before_anything_recurses() -> None:
    assert not read("[" * DEEPEST + "]" * DEEPEST)[1]
    _, [problem] = read("[" * 100_000 + "]" * 100_000)
    assert problem == f"f.yaml:1:{DEEPEST + 1}: is nested more than {DEEPEST} deep; write it flatter"
