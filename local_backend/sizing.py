"""Whether a model fits the memory there is, and how much of it its cache of keys and values may have. Torch-free."""

from pathlib import Path

from local_backend.config import ModelConfig, UnusableModel
from local_backend.options import Setup

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes


def stored_bytes(folder: Path) -> int:
    """Of the weights, as they lie on the disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def check_weights(shape: ModelConfig, setup: Setup, stored: int, available: int, together: int = 1) -> None:
    """`stored` and `available` in bytes: of the files, and of memory, which so many ranks have `together`. Raises
    UnusableModel: better told now than by a process that is killed in the middle."""
    width = _width(shape, setup)
    tables = shape.tables  # which each rank has whole
    of_a_rank = tables + (shape.parameters - tables) // setup.ranks
    needed = (shape.parameters * width or stored) * of_a_rank * together // shape.parameters
    if needed > available:
        small = width == 1 or (shape.stored is not None and shape.stored.kept)
        smaller = "a smaller model" if small else "--quantize int8 or a smaller model"
        raise UnusableModel(
            f"{setup.folder}: the weights take about {_shown(needed)} and {_shown(available)} of memory are"
            f" available; take {smaller}, or give this process more"
        )


def _width(shape: ModelConfig, setup: Setup) -> int:
    """Bytes of a weight; 0: as they are stored."""
    if setup.quantize != "none":
        return 1
    if shape.stored is not None:
        return 0 if shape.stored.kept else WIDTHS.get(setup.dtype, 2)
    return WIDTHS.get(setup.dtype, 0)


def kv_memory(shape: ModelConfig, setup: Setup, token: int, available: int) -> int:
    """Bytes for the cache, `token` for each token, once the weights are loaded. Raises UnusableModel where it could
    not hold the length that is asked for, or a single block."""
    asked, config = setup.kv_memory, setup.config
    assert asked is not None, "the setup is suited to its device"
    if isinstance(asked, int) and asked > available:
        raise UnusableModel(
            f"--kv-memory asks for {_shown(asked)} and {_shown(available)} are available beside the weights;"
            " lower it, or give this process more memory"
        )
    memory = asked if isinstance(asked, int) else int(asked * available)
    least = min(config.max_len or config.block_size, shape.max_positions)
    needed = (-(-least // config.block_size) + 1) * config.block_size * token  # one block is for padding
    if needed > memory:
        raise UnusableModel(
            f"{least} tokens take {_shown(needed)} of cache and --kv-memory gives {_shown(memory)} of the"
            f" {_shown(available)} available; raise it, or lower --max-len"
        )
    return memory


def _shown(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.1f} MiB"
