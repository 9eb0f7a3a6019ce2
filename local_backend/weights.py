"""The tensors of a model folder: one safetensors file or several, read where they lie. No pickle, ever."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from local_backend.config import UnusableModel, read_json

# What a matrix of plain numbers may be of.
PLAIN = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
Tell = Callable[[str], None]  # hears how far it has come


class Weights:
    """Read by name, each when asked. Raises UnusableModel that names the file or the tensor at fault."""

    def __init__(
        self, folder: Path, device: torch.device | str = "cpu", tell: Tell = lambda how_far: None
    ) -> None:
        """`device`: where what is read is put."""
        self.folder, self._device, self._tell = folder, device, tell
        self._shard_of: dict[str, Any] = {}
        self._read: set[str] = set()
        self._open = ExitStack()
        for file in _files(folder):
            try:
                shard = self._open.enter_context(safe_open(file, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise UnusableModel(f"{file}: cannot be read as safetensors: {error}") from None
            self._shard_of.update(dict.fromkeys(shard.keys(), shard))

    def __enter__(self) -> "Weights":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __contains__(self, name: str) -> bool:
        return name in self._shard_of

    def read(
        self,
        name: str,
        shape: tuple[int, ...] | None = None,
        cut: tuple[slice, ...] | None = None,
        packed: torch.dtype | None = None,
    ) -> Tensor:
        """All of a tensor, or what `cut` says of its dimensions, which alone is read then; of plain numbers, or of the
        type `packed`, where numbers are kept so."""
        if name not in self._shard_of:
            raise UnusableModel(f"{self.folder}: the weights lack {name}")
        self._read.add(name)
        self._tell(f"{100 * len(self._read) // len(self._shard_of)} % of the weights are read")
        shard = self._shard_of[name]
        if shape is not None and (stored := tuple(shard.get_slice(name).get_shape())) != shape:
            raise UnusableModel(
                f"{self.folder}: {name} has the shape {stored} where config.json asks for {shape}"
            )
        found: Tensor = shard.get_tensor(name) if cut is None else shard.get_slice(name)[cut]
        if found.dtype not in PLAIN and found.dtype is not packed:
            raise UnusableModel(
                f"{self.folder}: {name} is of the type {found.dtype}, and by config.json it is not kept so"
            )
        return found.to(self._device)

    def check_all_read(self, *beside: str) -> None:
        """A tensor that nobody asked for is part of a model we do not compute; `beside`: endings of names that
        are none."""
        surplus = sorted(
            name for name in self._shard_of if name not in self._read and not name.endswith(beside)
        )
        if surplus:
            raise UnusableModel(
                f"{self.folder}: the weights hold {surplus[0]}, which such a model has no place for"
                f" ({len(surplus)} tensors in all)"
            )


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        file = folder / "model.safetensors"
        if not file.exists():
            raise UnusableModel(f"{folder}: there is no model.safetensors; other formats are not read")
        return [file]
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise UnusableModel(f"{index}: has no weight_map from tensors to files")
    return [folder / Path(name).name for name in sorted(set(names.values()))]
