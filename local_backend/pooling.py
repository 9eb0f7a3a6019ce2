"""How a model's states become one vector: what sentence-transformers writes beside the weights. Torch-free."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from local_backend.config import UnusableModel, read_json, reading

_HOW: dict[str, Literal["mean", "cls", "last"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_MODULE = "sentence_transformers.models."


@dataclass(slots=True, frozen=True)
class Pooling:
    """`most` tokens an input may have, 0 for as many as the model takes; `prompt` stands before every text."""

    how: Literal["mean", "cls", "last"]
    normalize: bool
    most: int = 0
    prompt: str = ""


def pooling_of(folder: Path) -> Pooling | None:
    """None where the folder says nothing of it: such a model was not made for embeddings. Raises UnusableModel."""
    path = folder / "modules.json"
    if not path.exists():
        return None
    try:
        modules = json.loads(path.read_text())
        kinds = {str(one["type"]).removeprefix(_MODULE): str(one["path"]) for one in modules}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnusableModel(f"{path}: cannot be read: {error}") from None
    surplus = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    if surplus or "Pooling" not in kinds:
        told = f"the module {surplus[0]} is not supported" if surplus else "there is no module Pooling"
        raise UnusableModel(f"{path}: {told}; Transformer, Pooling and Normalize are")
    sizes, prompts = folder / "sentence_bert_config.json", folder / "config_sentence_transformers.json"
    with reading(sizes):
        most = int((read_json(sizes) if sizes.exists() else {}).get("max_seq_length") or 0)
    with reading(prompts):
        prompt = _prompt(read_json(prompts) if prompts.exists() else {})
    return Pooling(_how(folder / kinds["Pooling"] / "config.json"), "Normalize" in kinds, most, prompt)


def _how(path: Path) -> Literal["mean", "cls", "last"]:
    raw = read_json(path)
    asked = [name for name, value in raw.items() if name.startswith("pooling_mode_") and value is True]
    if len(asked) != 1 or asked[0] not in _HOW:
        raise UnusableModel(
            f"{path}: asks for {' and '.join(asked) or 'nothing'}; one of {', '.join(_HOW)} is known"
        )
    return _HOW[asked[0]]


def _prompt(raw: dict[str, Any]) -> str:
    name = raw.get("default_prompt_name")
    return str((raw.get("prompts") or {}).get(name, "")) if name else ""
