"""The bundled engine: OpenAI's HTTP over a unix socket (started by the gateway) or at an address."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.providers.compatible import OPENAI_DIALECTS, Compatible, Endpoint, Place, parse_base_url

_SIZE = re.compile(r"\d+(MiB|GiB)")


@dataclass(slots=True, frozen=True)
class Engine:
    """Either `model` (a folder or a name: the gateway starts it) or `address` (it runs elsewhere). What follows
    `params` are the engine's own flags, by its names; None: as the engine has it."""

    model: str = ""
    address: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)
    download: bool | None = None
    deterministic: bool | None = None
    enforce_eager: bool | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    quantize: Literal["none", "int8", "fp8"] | None = None
    tool_format: Literal["hermes", "llama3", "mistral", "mistral-named", "qwen3-coder"] | None = None
    max_len: int | None = None
    max_seqs: int | None = None
    max_waiting: int | None = None
    speculate: int | None = None
    tensor_parallel: int | None = None
    threads: int | None = None
    kv_cache_dtype: Literal["auto", "fp8"] | None = None
    kv_memory: str | float | None = None  # a size, or a share of the memory that the weights leave

    @property
    def flags(self) -> tuple[str, ...]:
        """Those that are given, as words of its command."""
        found: list[str] = []
        for name in FLAGS:
            flag, value = f"--{name.replace('_', '-')}", getattr(self, name)
            if isinstance(value, bool):
                found += [flag] if value else []
            elif value is not None:
                found += [flag, str(value)]
        return tuple(found)


_LEAST = {"max_len": 1, "max_seqs": 1, "max_waiting": 0, "speculate": 0, "tensor_parallel": 1, "threads": 0}
_MOST = {"speculate": 64, "tensor_parallel": 64}
FLAGS = (
    "download", "deterministic", "enforce_eager", "device", "dtype", "quantize", "tool_format", *_LEAST,
    "kv_cache_dtype", "kv_memory",
)  # fmt: skip


@dataclass(slots=True, frozen=True)
class Local(Compatible):
    spec: type[Any] = Engine
    dialects: frozenset[str] = OPENAI_DIALECTS

    def enabled(self, spec: Any) -> bool:
        return True

    def facts(self, spec: Any) -> Place:
        """`address` is set by then: the policy's own, or the socket of the engine that will be started."""
        address = spec.address
        if not address:
            raise ValueError('address: give "model" to have an engine started, or "address" to attach to one')
        if not address.startswith("unix:"):
            address = address.rstrip("/").removesuffix("/v1") + "/v1"
        _check(spec)
        parse_base_url(address, "address")  # what is wrong with it is told by the name it has here
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        return Compatible.facts(self, Endpoint(base_url=address, headers=spec.headers, params=spec.params))


def _check(spec: Engine) -> None:
    """Raises ValueError."""
    for name in FLAGS:
        value = getattr(spec, name)
        if value is not None and not spec.model:
            raise ValueError(f"{name}: is for an engine that the gateway starts; tell the one at the address")
        least, most = _LEAST.get(name), _MOST.get(name, 10**9)
        if value is not None and least is not None and not least <= value <= most:
            raise ValueError(f"{name}: must be a whole number from {least} to {most}")
    room = spec.kv_memory
    fits = _SIZE.fullmatch(room) if isinstance(room, str) else room is None or 0.001 <= room <= 1
    if not fits:
        raise ValueError("kv_memory: write a size such as 512MiB or 2GiB, or a share such as 0.5")
