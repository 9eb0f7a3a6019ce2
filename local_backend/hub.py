"""A model by what it is called: `bundled`, a folder, or a name of the Hugging Face hub. Nothing is downloaded unless
asked for; then huggingface_hub shows the progress and takes up a connection that breaks where it stopped."""

import re
from collections.abc import Callable
from pathlib import Path

from local_backend.config import UnusableModel, folder_of

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What is read; no code, no pickled weights, no second copy in another format.
FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja"]
NESTED = ["*/*"]  # original/, onnx/ and the like


def find(model: str, *, download: bool) -> Path:
    """The folder of a model. Raises UnusableModel."""
    if model == "bundled" or Path(model).exists() or not _NAME.fullmatch(model):
        if download:
            raise UnusableModel(
                f"{model}: is no name of the hub such as Qwen/Qwen3-0.6B; leave out --download"
            )
        return folder_of(model)
    return folder_of(str(_downloaded(model) if download else _cached(model)))


def _cached(name: str) -> Path:
    snapshot = _snapshot()
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return snapshot(name, local_files_only=True)
    except LocalEntryNotFoundError:
        raise UnusableModel(
            f"{name}: there is no folder of that name, and the hub's model is not (or not wholly) on this machine;"
            f" download it: python -m local_backend --model {name} --download"
        ) from None


def _downloaded(name: str) -> Path:
    snapshot = _snapshot()
    from huggingface_hub import errors

    try:
        return snapshot(name, local_files_only=False)
    except errors.GatedRepoError:
        raise UnusableModel(
            f"{name}: its owner asks for an agreement; accept it at https://huggingface.co/{name} and set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UnusableModel(
            f"{name}: the hub has no such model, or it is private: mend the name, or set HF_TOKEN"
        ) from None
    except Exception as error:  # of any HTTP client that huggingface_hub is made with
        raise UnusableModel(
            f"{name}: cannot be downloaded ({type(error).__name__}: {_first_line(error)}); is the hub within reach?"
            " Run this again to go on, behind a proxy set HTTPS_PROXY, with a mirror HF_ENDPOINT, or copy the model's"
            " folder here and give its path"
        ) from None


def _snapshot() -> Callable[..., Path]:
    """Imported when needed: a server of a folder does without."""
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise UnusableModel(
            "names of the hub need huggingface_hub; pip install 'gatehouse[local]', or give a folder"
        ) from None

    def snapshot(name: str, *, local_files_only: bool) -> Path:
        found = snapshot_download(
            name, local_files_only=local_files_only, allow_patterns=FILES, ignore_patterns=NESTED
        )
        return Path(found)

    return snapshot


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no more is known"])[0]
