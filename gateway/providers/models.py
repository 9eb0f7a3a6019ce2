"""What well-known models can do, by name: models.json. Written down as far as known, to choose between targets and
never to refuse; a policy file's `capabilities:` goes before it."""

from collections.abc import Mapping
from importlib.resources import files

import orjson

from gateway.core.capabilities import Capabilities


def _read() -> Mapping[str, Capabilities]:
    table = orjson.loads(files("gateway.providers").joinpath("models.json").read_bytes())
    return {name: Capabilities(**facts) for name, facts in table.items()}


MODELS = _read()


def known(model: str) -> Capabilities | None:
    """By the longest name that the model's begins with: `gpt-4o-2024-08-06` is a `gpt-4o`, and so at Vertex is what
    has its version behind an @. None: nobody knows."""
    name = model.rpartition("/")[2].replace("@", "-")
    found = max((one for one in MODELS if name == one or name.startswith(f"{one}-")), key=len, default="")
    return MODELS.get(found)
