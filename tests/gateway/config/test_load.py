import os
from pathlib import Path

import pytest

from gateway.config.load import fingerprint, load, read_folder
from gateway.config.problem import BadPolicies
from gateway.config.variables import Variables
from gateway.providers.registry import PROVIDERS
from tests.gateway.config.texts import BASE, problems, told
from tests.users import folder_for_all, ordinary


def test_files_of_a_folder_are_read_by_name(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "notes.txt", "c.yaml~"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.yaml").write_text("x")
    (tmp_path / "e.yaml").mkdir()
    assert list(read_folder(tmp_path)) == [str(tmp_path / "a.yml"), str(tmp_path / "b.yaml")]


def test_one_file_will_do(tmp_path: Path) -> None:
    (tmp_path / "only.policies").write_text("kind: access")
    assert read_folder(tmp_path / "only.policies") == {str(tmp_path / "only.policies"): "kind: access"}


def refused(path: Path) -> str:
    with pytest.raises(BadPolicies) as caught:
        read_folder(path)
    return str(caught.value)


def test_a_folder_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    assert "gateway init makes one" in refused(tmp_path / "gone")
    assert "gateway init writes a first one" in refused(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    assert refused(tmp_path) == f"{tmp_path}/a.yaml:1:1: is not UTF-8 text; save it as UTF-8"
    (tmp_path / "a.yaml").write_bytes(b"#" * (9 << 20))
    assert "is larger than 8 MiB; split it" in refused(tmp_path)
    assert "cannot be read (File name too long); mend its rights" in refused(tmp_path / ("a" * 300))


def test_a_folder_that_may_be_listed_and_not_entered_tells_of_its_rights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "is_file", os.path.isfile)  # as Python 3.14 has it
    with folder_for_all() as folder:
        (folder / "a.yaml").write_text("x")
        folder.chmod(0o744)
        with ordinary():
            assert refused(folder) == f"{folder}:1:1: cannot be read (Permission denied); mend its rights"


def test_a_file_whose_name_is_no_text_is_refused_by_it(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"b\xe9.yaml")).write_text("x")
    assert "the name of b\\udce9.yaml is not UTF-8; rename it" in refused(tmp_path)


def test_a_link_that_leads_nowhere_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x")
    (tmp_path / "b.yaml").symlink_to("gone.yaml")
    (tmp_path / "c.yaml").symlink_to("c.yaml")
    (tmp_path / "d.yaml").symlink_to("a.yaml/gone.yaml")
    assert list(read_folder(tmp_path)) == [str(tmp_path / "a.yaml")]


def test_the_version_is_of_names_contents_and_referenced_files(tmp_path: Path) -> None:
    def version(texts: dict[str, str]) -> str:
        return load(texts, Variables({}, tmp_path)).version

    (tmp_path / "key").write_text("one")
    text = 'kind: providers\nproviders: {o: {type: openai, api_key: "${file:key}"}}'
    first = version({"a.yaml": text})
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")
    assert version({"a.yaml": text}) == version({"/elsewhere/a.yaml": text}) == first
    assert version({"b.yaml": text}) != first
    assert version({"a.yaml": text + "\n"}) != first
    (tmp_path / "key").write_text("two")
    assert version({"a.yaml": text}) != first


def test_the_fingerprint_tells_a_missing_file_from_a_full_one() -> None:
    assert fingerprint({}, {Path("k"): None}) != fingerprint({}, {Path("k"): b"x"})


def test_a_document_without_kind_is_told_the_kinds() -> None:
    kinds = "providers, models, access, rate-limits, tests"
    for text in ("a: 1", "- 1", "just words", "kind: 3", "kind:"):
        assert told(text)[0].endswith(f"kind: every document has a kind; add one of {kinds}"), text


@pytest.mark.parametrize("kind", ["budgets", "prices", "guardrails", "cache", "mcp", "monitors"])
def test_a_kind_to_come_is_said_not_to_be_built(kind: str) -> None:
    assert told(f"kind: {kind}\nrules: []") == [
        f'a.yaml:1:7: kind: kind "{kind}" is not built yet; remove this document'
    ]


def test_a_kind_misspelt_is_helped() -> None:
    assert told("kind: rate-limit") == [
        'a.yaml:1:7: kind: there is no kind "rate-limit"; did you mean "rate-limits"?'
    ]


def test_a_provider_type_misspelt_or_missing_is_helped() -> None:
    assert told("kind: providers\nproviders:\n  a: {type: opnai}\n  b: {}\n  c: 3\n") == [
        'a.yaml:3:13: type: there is no provider type "opnai"; did you mean "openai"?',
        f"a.yaml:4:6: type: must be one of {', '.join(PROVIDERS)}; add it",
        "a.yaml:5:6: providers.c: must be a mapping, as in {type: openai}",
    ]


@pytest.mark.parametrize("name", ["a/b", "..", "ä", "a b", "-a"])
def test_a_provider_has_a_plain_name(name: str) -> None:
    [problem] = problems(f"kind: providers\nproviders:\n  ? '{name}'\n  : {{type: openai}}")
    assert "rename it" in problem.message
    assert problem.place.line == 3


def test_faults_of_all_files_are_told_at_once_in_order() -> None:
    found = told("kind: nope", "kind: models\nmodels: {a: {}}", "a: [")
    assert [line.split(":")[0] for line in found] == ["a.yaml", "b.yaml", "c.yaml"]


def test_what_could_not_be_filled_in_is_complained_of_once() -> None:
    text = 'kind: rate-limits\nrules: [{id: a, limit: "${GONE}", unit: requests, per: minute}]'
    [problem] = told(text)
    assert "the variable GONE is not set" in problem


def test_good_files_have_no_problem() -> None:
    assert problems(BASE) == []
    assert problems(*BASE.split("---\n")) == []


def test_a_folder_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("old")
    reads: list[str] = []

    def read_and_write(file: Path) -> bytes:
        reads.append(file.name)
        with open(file, "rb") as opened:
            before = opened.read()
        if len(reads) == 1:
            for name in ("a.yaml", "b.yaml"):
                (tmp_path / name).write_text("newer")
        return before

    monkeypatch.setattr(Path, "read_bytes", read_and_write)
    assert set(read_folder(tmp_path).values()) == {"newer"}
    assert reads == ["a.yaml", "b.yaml"] * 2


def test_an_empty_file_is_a_problem_not_an_empty_policy_set(tmp_path: Path) -> None:
    with pytest.raises(BadPolicies) as bad:
        load({"a.yaml": " \n"}, Variables({}, tmp_path))
    assert str(bad.value) == "a.yaml:1:1: the file is empty; write a document or remove it"
