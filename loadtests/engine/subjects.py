"""The two that are measured: our engine, step by step, and transformers, in both of its ways to generate."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from loadtests.engine.bench import Absent, Bench
from local_backend.cache import cache_dtype, token_bytes
from local_backend.engine import Engine
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.types import Delta, Job, Sampling

SHARED = Path(os.environ.get("GATEHOUSE_SHARED") or Path(__file__).parents[3] / "shared")
STORIES = SHARED / "models" / "stories260K"
Tokens = list[list[int]]
PLAIN = EngineConfig()


def prompts(count: int, length: int, vocabulary: int, seed: int = 0) -> Tokens:
    """Random ids, none of the first few that models keep for themselves."""
    dice = torch.Generator().manual_seed(seed)
    found: Tokens = torch.randint(8, vocabulary, (count, length), generator=dice).tolist()
    return found


def generate(
    engine: Engine,
    asked: Tokens,
    new: int,
    step: Callable[[], None] | None = None,
    temperature: float = 0.0,
) -> Tokens:
    """Greedy unless told, past every end of text, all at once; `step` stands in for the engine's own."""
    out: Tokens = [[] for _ in asked]
    sampling = Sampling(temperature=temperature, max_tokens=new, ignore_eos=True)
    for index, prompt in enumerate(asked):

        def deliver(_: int, delta: Delta, index: int = index) -> None:
            out[index] += delta.ids

        engine.add(Job(prompt, sampling), deliver)
    while engine.has_work:
        (step or engine.step)()
    return out


def engine_for(  # noqa: PLR0913 - what an engine is to hold
    bench: Bench, model: Decoder, rows: int, length: int, asked: EngineConfig = PLAIN, *, step_tokens: int = 0,
    tokens: int = 0,
) -> Engine:  # fmt: skip
    """As the device likes it, for `rows` sequences of at most `length` tokens; with a cache for them all, or for so
    many `tokens`. `asked`: what else it is told."""
    kept = token_bytes(model.config, cache_dtype(model.embed, asked.kv_cache_dtype))
    config = replace(
        asked, block_size=32 if bench.on_gpu else 16, step_tokens=step_tokens or bench.sizes.step_tokens, max_seqs=rows,
        max_len=length, kv_memory=(tokens or 1 << 40) * kept, overlap=bench.on_gpu,
    )  # fmt: skip
    return Engine(model, config)


def library() -> Any:
    """transformers. Raises Absent."""
    try:
        import transformers
    except ModuleNotFoundError:
        raise Absent("transformers is not installed") from None
    return transformers


class Transformers:
    """Greedy and as long as asked, by `generate` with a static batch and by `generate_batch`. Raises Absent."""

    def __init__(self, model: Any) -> None:
        transformers = library()

        transformers.logging.set_verbosity_error()
        self._library, self._model = transformers, model
        self._on_gpu = model.device.type == "cuda"  # where it compiles the step
        self.ways = {"generate, static": self.static, "generate_batch": self.continuous}

    def static(self, asked: Tokens, new: int) -> Tokens:
        ids = torch.tensor(asked, device=self._model.device)
        out = self._model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=-1, max_new_tokens=new,
            cache_implementation="static", pad_token_id=0, disable_compile=not self._on_gpu,
        )  # fmt: skip
        found: Tokens = out[:, ids.shape[1] :].tolist()
        return found

    def continuous(self, asked: Tokens, new: int) -> Tokens:
        """With a cache just large enough: left to itself it takes what memory there is, and minutes for it."""
        page = 256
        blocks = sum(-(-(len(one) + new) // page) for one in asked) + 8
        kind = self._library.ContinuousBatchingConfig
        size = "page_size" if "page_size" in kind.__dataclass_fields__ else "block_size"  # as 5.17 has it
        how = kind(
            **{size: page}, num_blocks=blocks, max_batch_tokens=8192 if self._on_gpu else max(512, len(asked))
        )
        greedy = self._library.GenerationConfig(
            do_sample=False, max_new_tokens=new, min_new_tokens=new, eos_token_id=-1, pad_token_id=0
        )
        out = self._model.generate_batch(asked, generation_config=greedy, continuous_batching_config=how)
        by_number = sorted(out.items(), key=lambda one: int(one[0].rsplit("_", 1)[1]))
        return [list(one.generated_tokens) for _, one in by_number]
