"""A folder of policy files to checked documents; every fault with its place and remedy."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.config.papers import Paper, Reader, Variables
from gateway.config.problem import BadPolicies, Path, Place, Problem, did_you_mean
from gateway.config.schema import KINDS_TO_COME, PAPERS, PROVIDER_MODELS, ProvidersPaper, Strict


class Document(NamedTuple):
    paper: Paper
    spec: Strict


@dataclass(slots=True, frozen=True)
class Papers:
    """All documents of a folder that are sound in themselves, and what they were made of."""

    documents: list[Document]
    version: str  # 12 hex of the SHA-256 over names and contents, referenced files included
    files: frozenset[FilePath]  # referenced by ${file:}


def read_folder(path: FilePath) -> dict[str, str]:
    """The policy files of a folder (or the one file), by the name shown in errors. Raises BadPolicies."""
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = sorted(
            entry
            for entry in path.iterdir()
            if entry.suffix in (".yaml", ".yml") and not entry.name.startswith(".") and entry.is_file()
        )
    else:
        raise BadPolicies(
            [Problem(Place(str(path), 1, 1), "", "there is no such folder or file; see gateway init")]
        )
    if not found:
        raise BadPolicies(
            [Problem(Place(str(path), 1, 1), "", "holds no .yaml file; gateway init writes a first one")]
        )
    texts = {}
    for file in found:
        try:
            texts[str(file)] = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            place = Place(str(file), 1, 1)
            raise BadPolicies(
                [Problem(place, "", f"cannot be read: {error}; it must be UTF-8 text")]
            ) from None
    return texts


def load(texts: Mapping[str, str], folder: FilePath, environ: Mapping[str, str] = os.environ) -> Papers:
    """Raises BadPolicies with every fault of every file."""
    variables = Variables(environ, folder)
    problems: list[Problem] = []
    documents: list[Document] = []
    digest = hashlib.sha256()
    for name, text in texts.items():
        digest.update(f"{FilePath(name).name}\0{len(text)}\0{text}".encode())
        reader = Reader(name, text, variables.fill)
        for paper in reader.papers():
            spec = check(paper, problems)
            if spec is not None:
                documents.append(Document(paper, spec))
        problems += reader.problems
    if problems:
        raise BadPolicies(problems)
    for path, raw in sorted(variables.files.items()):
        digest.update(f"{path}\0".encode() + hashlib.sha256(raw).digest())
    return Papers(documents, digest.hexdigest()[:12], frozenset(variables.files))


def check(paper: Paper, problems: list[Problem]) -> Strict | None:
    """One document against its schema; None where it fails."""
    data = paper.data
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        problems.append(paper.problem((), f"every document begins with a kind; {did_you_mean('', PAPERS)}"))
        return None
    if kind in KINDS_TO_COME:
        problems.append(paper.problem(("kind",), f'kind "{kind}" is not built yet; remove this document'))
        return None
    if kind not in PAPERS:
        problems.append(paper.problem(("kind",), f'there is no kind "{kind}"; {did_you_mean(kind, PAPERS)}'))
        return None
    before = len(problems)
    spec = _validated(paper, PAPERS[kind], data, (), problems)
    if isinstance(spec, ProvidersPaper):
        for name, fields in spec.providers.items():
            spec.providers[name] = _provider(paper, name, fields, problems)
    return spec if len(problems) == before else None


def _provider(paper: Paper, name: str, fields: Any, problems: list[Problem]) -> Any:
    path: Path = ("providers", name)
    kind = fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(kind, str):
        known = ", ".join(sorted(PROVIDER_MODELS))
        problems.append(paper.problem(path, f"a provider needs a type; there is {known}"))
        return None
    if kind not in PROVIDER_MODELS:
        to_come = ("azure", "anthropic", "gemini", "bedrock", "vertex", "cohere", "mistral")
        message = f'the type "{kind}" is not built yet; there is {", ".join(sorted(PROVIDER_MODELS))}'
        if kind not in to_come:
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
        problems += [_problem(paper, model, path, dict(one)) for one in error.errors(include_url=False)]
        return None


def _problem(paper: Paper, model: type[Strict], base: Path, error: dict[str, Any]) -> Problem:
    path: Path = (*base, *_real(paper, base, error["loc"]))
    kind = error["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, path[len(base) : -1])
        hint = f"; {did_you_mean(str(path[-1]), known)}" if known else "; remove it"
        return paper.problem(path, f"is not a key of this place{hint}", key=True)
    if kind == "missing":
        return paper.problem(path, "is missing; add it")
    return paper.problem(path, _message(error))


def _real(paper: Paper, base: Path, loc: tuple[str | int, ...]) -> Path:
    """pydantic's location without the names of union members it tried."""
    path: list[str | int] = []
    for place, step in enumerate(loc):
        known = (*base, *path, step)
        if known in paper.values or known in paper.keys or place == len(loc) - 1:
            path.append(step)
    tail = path[-1] if path else None
    if isinstance(tail, str) and ("[" in tail or tail in ("str", "int", "bool", "float")):
        path.pop()
    return tuple(path)


def _fields_at(model: type[Strict], path: Path) -> list[str]:
    """The keys allowed where `path` leads, as far as the models tell."""
    current: Any = model
    for step in path:
        if isinstance(current, type) and issubclass(current, Strict):
            found = current.model_fields.get(str(step))
            if found is None:
                return []
            current = found.annotation
        current = _inner(current)
    if isinstance(current, type) and issubclass(current, Strict):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _inner(annotation: Any) -> Any:
    """The model inside list[...], dict[..., ...] or Annotated[...]."""
    while not isinstance(annotation, type) or not issubclass(annotation, Strict):
        arguments = getattr(annotation, "__args__", ())
        models = [one for one in arguments if one is not str]
        if not models:
            return annotation
        annotation = models[0]
    return annotation


_REMEDIES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list, as in [a, b]",
    "dict_type": "must be a mapping, as in {key: value}",
    "model_type": "must be a mapping, as in {key: value}",
    "model_attributes_type": "must be a mapping, as in {key: value}",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty; add at least one",
}


def _message(error: dict[str, Any]) -> str:
    """pydantic's words in the shape "what is wrong; how to mend it"."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _REMEDIES:
        return _REMEDIES[kind]
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = context.get("ge", context.get("le"))
        return f"must be {'at least' if kind[0] == 'g' else 'at most'} {bound}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}; see gateway schema"
