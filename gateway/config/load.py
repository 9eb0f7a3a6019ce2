"""A folder of policy files to checked documents; every fault with its place and remedy."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path as FilePath
from stat import S_ISDIR, S_ISREG
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.config.papers import Paper, Reader
from gateway.config.problem import BadPolicies, Path, Place, Problem, did_you_mean
from gateway.config.schema import NOT_BUILT, PAPERS, PROVIDER_MODELS, ProvidersPaper, Strict
from gateway.config.validation import problems_of
from gateway.config.variables import Variables

MOST_BYTES = 8 << 20  # of one file
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # part of target names, paths and metrics
_READS = 5  # until a folder that is being swapped is given up as settled


class Document(NamedTuple):
    paper: Paper
    spec: Strict


@dataclass(slots=True, frozen=True)
class Papers:
    """All documents of a folder, sound in themselves; `version` is 12 hex of the SHA-256 over names and
    contents, files referenced by ${file:} included."""

    documents: list[Document]
    version: str


def read_folder(path: FilePath) -> dict[str, str]:
    """The policy files of a folder (or the one file), by the name shown in errors. Raises BadPolicies.

    A folder whose files are swapped while they are read is read again: half of two versions is neither.
    """
    for _ in range(_READS):
        before = signature(path)
        texts = {str(file): _text(file) for file in _files(path)}
        if signature(path) == before:
            break
    return texts


def _files(path: FilePath) -> list[FilePath]:
    try:
        found = _listed(path)
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror}); mend its rights") from None
    if not found:
        raise _unreadable(path, "holds no .yaml file; gateway init writes a first one")
    odd = [file for file in found if not _is_utf8(file)]
    if odd:
        shown = odd[0].name.encode("utf-8", "backslashreplace").decode()
        raise _unreadable(path, f"the name of {shown} is not UTF-8; rename it")
    return found


def _listed(path: FilePath) -> list[FilePath]:
    mode = _mode(path)
    if S_ISREG(mode):
        return [path]
    if not S_ISDIR(mode):
        raise _unreadable(path, "there is no such folder or file; gateway init makes one")
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix in (".yaml", ".yml") and not entry.name.startswith(".") and S_ISREG(_mode(entry))
    )


def _mode(path: FilePath) -> int:
    """0 where there is nothing, or a link that leads nowhere. Raises OSError where nobody lets us look, which
    `Path.is_file` takes for no from Python 3.14 on."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR, ELOOP):
            return 0
        raise


def _is_utf8(file: FilePath) -> bool:
    """Names that are not come with stand-ins, which nothing can be written with."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True


def signature(path: FilePath) -> list[tuple[str, int, int, int]]:
    """Changes with every write to these files, whatever is written. Raises BadPolicies."""
    signs = []
    for file in _files(path):
        try:
            stat = file.stat()
        except OSError:
            continue
        signs.append((file.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return signs


def _text(file: FilePath) -> str:
    try:
        raw = file.read_bytes()
        if len(raw) > MOST_BYTES:
            raise _unreadable(file, f"is larger than {MOST_BYTES >> 20} MiB; split it")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(file, f"cannot be read ({error.strerror}); mend its rights") from None
    except UnicodeDecodeError:
        raise _unreadable(file, "is not UTF-8 text; save it as UTF-8") from None


def _unreadable(file: FilePath, message: str) -> BadPolicies:
    return BadPolicies([Problem(Place(str(file), 1, 1), "", message)])


def load(texts: Mapping[str, str], variables: Variables) -> Papers:
    """Raises BadPolicies with every fault of every file."""
    problems: list[Problem] = []
    documents: list[Document] = []
    for name, text in texts.items():
        if not text.strip():
            problems.append(
                Problem(Place(name, 1, 1), "", "the file is empty; write a document or remove it")
            )
            continue
        reader = Reader(name, text, variables.fill)
        found: list[Problem] = []
        for paper in reader.papers():
            spec = check(paper, found)
            if spec is not None:
                documents.append(Document(paper, spec))
        # What could not be read is not complained of again for being empty.
        known = {problem.place for problem in reader.problems}
        problems += reader.problems + [problem for problem in found if problem.place not in known]
    if problems:
        raise BadPolicies(problems)
    return Papers(documents, fingerprint(texts, variables.files))


def fingerprint(texts: Mapping[str, str], files: Mapping[FilePath, bytes | None]) -> str:
    digest = hashlib.sha256()
    for name, text in texts.items():
        digest.update(f"{FilePath(name).name}\0{len(text)}\0{text}".encode())
    for path, raw in sorted(files.items()):
        digest.update(f"{path}\0".encode() + hashlib.sha256(raw or b"").digest())
    return digest.hexdigest()[:12]


def check(paper: Paper, problems: list[Problem]) -> Strict | None:
    """One document against its schema; None where it fails."""
    data = paper.data
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        kinds = ", ".join(PAPERS)
        problems.append(paper.problem(("kind",), f"every document has a kind; add one of {kinds}"))
        return None
    if kind not in PAPERS:
        message = f'there is no kind "{kind}"; {did_you_mean(kind, PAPERS)}'
        if kind in NOT_BUILT:
            message = f'kind "{kind}" is not built yet; remove this document'
        problems.append(paper.problem(("kind",), message))
        return None
    before = len(problems)
    spec = _validated(paper, PAPERS[kind], data, (), problems)
    if isinstance(spec, ProvidersPaper):
        for name, fields in spec.providers.items():
            spec.providers[name] = _provider(paper, name, fields, problems)
    return spec if len(problems) == before else None


def _provider(paper: Paper, name: str, fields: Any, problems: list[Problem]) -> Any:
    path: Path = ("providers", name)
    if _PROVIDER_NAME.fullmatch(name) is None:
        message = "a provider's name is made of letters, digits, dot, dash and underscore; rename it"
        problems.append(paper.problem(path, message, key=True))
    if not isinstance(fields, dict):
        problems.append(paper.problem(path, "must be a mapping, as in {type: openai}"))
        return None
    kind = fields.get("type")
    if not isinstance(kind, str):
        known = ", ".join(sorted(PROVIDER_MODELS))
        problems.append(paper.problem((*path, "type"), f"must be one of {known}; add it"))
        return None
    if kind not in PROVIDER_MODELS:
        message = f'there is no provider type "{kind}"; {did_you_mean(kind, PROVIDER_MODELS)}'
        problems.append(paper.problem((*path, "type"), message))
        return None
    return _validated(paper, PROVIDER_MODELS[kind], fields, path, problems)


def _validated(
    paper: Paper, model: type[Strict], data: Any, path: Path, problems: list[Problem]
) -> Strict | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems += problems_of(paper, model, path, error)
        return None
