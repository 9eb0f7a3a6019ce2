"""The engine computes the same whatever the company, the chunks, the cache and the room it has."""

import hashlib
import json
from concurrent.futures import wait
from itertools import count
from pathlib import Path
from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend.config import ModelConfig, UnusableModel  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.layers import rotate  # noqa: E402
from local_backend.loader import export, load  # noqa: E402
from local_backend.model import Decoder  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.probing import largest_step, step_bytes  # noqa: E402
from local_backend.tokenizer import Tokenizer  # noqa: E402
from local_backend.types import BadJob, Delta, Finish, Full, Job, Sampling  # noqa: E402
from tests.shared import shared  # noqa: E402

CONFIG = ModelConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, layers=2, heads=4, kv_heads=2, head_dim=8,
    max_positions=256, rms_eps=1e-5, rope_theta=10000.0, tied=True, eos=(), bos=None, temperature=1.0,
)  # fmt: skip
PROMPTS = [[(7 * i + j) % 64 for j in range(3 + 11 * i)] for i in range(6)]


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(5)
    made = Decoder(CONFIG)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def generate(engine: Engine, prompts: list[list[int]], joins: int = 0, **asked: Any) -> list[list[int]]:
    """The tokens of each prompt; `joins` steps pass before each next one comes in."""
    sampling = Sampling(**{"temperature": 0.0, "max_tokens": 12, **asked})
    out: list[list[int]] = [[] for _ in prompts]
    for index, prompt in enumerate(prompts):
        engine.add(Job(prompt, sampling), lambda _, delta, out=out[index]: out.extend(delta.ids))  # type: ignore[misc]
        wait(engine._compiling.futures if engine._compiling else ())  # or who comes when is left to chance
        for _ in range(joins):
            engine.step()
    while engine.has_work:
        engine.step()
    assert engine.pool.used == 0
    engine.pool.check_integrity([])
    return out


def alone(model: Decoder, **asked: Any) -> list[list[int]]:
    return [generate(Engine(model, EngineConfig()), [prompt], **asked)[0] for prompt in PROMPTS]


def reference(model: Decoder, prompt: list[int], count: int) -> list[int]:
    """Plain causal attention written out, a token at a time: nothing of the engine's own."""
    ids = list(prompt)
    for _ in range(count):
        positions = torch.arange(len(ids))
        x = model.embed(torch.tensor(ids))
        turn = model.rotary(positions)
        layers: Any = model.layers
        for layer in layers:
            rows = layer.attention.qkv(layer.input_norm(x)).view(len(ids), 8, 8)
            q, k, v = rotate(rows[:, :4], turn), rotate(rows[:, 4:6], turn), rows[:, 6:]
            mixed = torch.empty_like(q)
            for head in range(4):
                scores = q[:, head] @ k[:, head // 2].T / 8**0.5
                scores = scores.masked_fill(torch.triu(torch.ones_like(scores), 1).bool(), -torch.inf)
                mixed[:, head] = scores.softmax(-1) @ v[:, head // 2]
            x = x + layer.attention.out(mixed.reshape(len(ids), -1))
            gate, up = layer.mlp.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = x + layer.mlp.down(torch.nn.functional.silu(gate) * up)
        ids.append(int(model.logits(model.norm(x[-1:]))[0].argmax()))
    return ids[len(prompt) :]


def test_the_engine_agrees_with_attention_written_out(model: Decoder) -> None:
    assert alone(model)[:3] == [reference(model, prompt, 12) for prompt in PROMPTS[:3]]


def test_alone_is_as_in_a_batch_of_32(model: Decoder) -> None:
    many = [[*prompt, other] for prompt in PROMPTS for other in range(6)][:32]
    apart = [generate(Engine(model, EngineConfig()), [prompt])[0] for prompt in many]
    assert generate(Engine(model, EngineConfig()), many) == apart


@pytest.mark.parametrize("joins", [0, 1, 3])
def test_company_changes_nothing(model: Decoder, joins: int) -> None:
    assert generate(Engine(model, EngineConfig()), PROMPTS, joins) == alone(model)


@pytest.mark.parametrize("chunk", [1, 5, 16, 17])
def test_a_prompt_in_pieces_is_the_same_prompt(model: Decoder, chunk: int) -> None:
    assert generate(Engine(model, EngineConfig(step_tokens=chunk)), PROMPTS) == alone(model)


def test_a_pool_too_small_for_all_preempts_and_changes_nothing(model: Decoder) -> None:
    per_block = 4 * 2 * 2 * 2 * 8 * 16
    engine = Engine(model, EngineConfig(kv_memory=per_block * 8))
    assert generate(engine, PROMPTS) == alone(model)
    assert engine.scheduler.preemptions > 0


def test_a_known_beginning_is_not_computed_again(model: Decoder) -> None:
    engine = Engine(model, EngineConfig())
    prompt = PROMPTS[5]
    first = generate(engine, [prompt])
    cached: list[int] = []
    engine.add(
        Job(prompt, Sampling(temperature=0.0, max_tokens=12)), lambda _, delta: cached.append(delta.cached)
    )
    while engine.has_work:
        engine.step()
    assert cached[-1] == len(prompt) // 16 * 16
    engine.add(Job(prompt[:48], Sampling(temperature=0.0)), lambda _, delta: cached.append(delta.cached))
    while engine.has_work:
        engine.step()
    assert cached[-1] == 47, "of a prompt of whole blocks the last token is computed again"
    assert generate(engine, [prompt]) == first


def test_another_tenants_beginning_is_not_found(model: Decoder) -> None:
    engine = Engine(model, EngineConfig())
    cached: list[int] = []
    for salt in ("a", "b"):
        engine.add(
            Job(PROMPTS[5], Sampling(temperature=0.0), salt=salt),
            lambda _, delta: cached.append(delta.cached),
        )
        while engine.has_work:
            engine.step()
    assert set(cached) == {0}


def test_a_seed_draws_the_same_whoever_shares_the_batch(model: Decoder) -> None:
    asked = {"temperature": 0.9, "top_p": 0.95, "top_k": 20, "min_p": 0.01, "seed": 11}
    assert generate(Engine(model, EngineConfig()), PROMPTS, 1, **asked) == alone(model, **asked)
    assert alone(model, **asked) != alone(model, **{**asked, "seed": 12})


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_an_abort_in_any_phase_gives_its_blocks_back(model: Decoder, steps: int, overlap: bool) -> None:
    engine = Engine(model, EngineConfig(step_tokens=16, max_seqs=2, overlap=overlap))
    ended: list[Finish | None] = []
    sampling = Sampling(temperature=0.0, max_tokens=50)
    added = [
        one
        for prompt in PROMPTS
        for one in engine.add(Job(prompt, sampling, choices=2), lambda _, delta: ended.append(delta.finish))
    ]
    for _ in range(steps):
        engine.step()
    for sequence in (*added, *added):
        engine.abort(sequence)
        engine.pool.check_integrity([one.table for one in engine.scheduler.sequences()])
    assert ended.count(Finish.ABORT) == len(added)
    assert ended[-1] is Finish.ABORT
    while engine.has_work:
        engine.step()
    assert ended[-1] is Finish.ABORT, "nothing comes after the end"
    assert engine.pool.used == 0
    engine.close()


@pytest.mark.parametrize("room", [256, 8], ids=["room for all", "preempting"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"temperature": 0.9, "top_p": 0.95, "seed": 11},
        {"temperature": 0.9, "frequency_penalty": 1.0, "repetition_penalty": 1.3, "seed": 3},
        {"ignore_eos": True, "grammar": "every third", "temperature": 1.0},
    ],
    ids=["greedy", "seeded", "penalised", "grammar"],
)
def test_overlapping_steps_change_nothing(model: Decoder, asked: dict[str, Any], room: int) -> None:
    per_block = 4 * 2 * 2 * 2 * 8 * 16
    found = []
    for overlap in (False, True):
        config = EngineConfig(kv_memory=per_block * room, overlap=overlap)
        engine = Engine(model, config, compile=lambda text: EveryThird())
        found.append(generate(engine, PROMPTS, 1, **asked))
        assert bool(engine.scheduler.preemptions) == (room == 8)
        engine.close()
    assert found[0] == found[1]
    assert all(len(one) == 12 for one in found[0])
    if "grammar" in asked:
        assert all(token % 3 == at % 3 for one in found[0] for at, token in enumerate(one))


class EveryThird:
    """A grammar that allows the ids equal to its place, modulo three."""

    over = False

    def __init__(self) -> None:
        self._place = 0

    def mask(self) -> Any:
        bits = [int(token % 3 == self._place) for token in range(64)]
        return numpy.packbits(numpy.array(bits, numpy.uint8), bitorder="little").view(numpy.int32)

    def accept(self, token: int) -> bool:
        self._place = (self._place + 1) % 3
        return token % 3 == (self._place - 1) % 3

    def rollback(self, count: int) -> None:
        self._place = (self._place - count) % 3


def test_a_grammar_that_does_not_compile_ends_its_choices_alone(model: Decoder) -> None:
    def compile(text: str) -> EveryThird:
        raise ValueError(text)

    engine = Engine(model, EngineConfig(), compile=compile)
    ended: list[Finish | None] = []
    engine.add(Job([1], Sampling(grammar="?"), choices=2), lambda _, delta: ended.append(delta.finish))
    engine.add(Job([1], Sampling(max_tokens=1)), lambda _, delta: ended.append(delta.finish))
    while engine.has_work:
        engine.step()
    assert sorted(str(one) for one in ended) == ["Finish.ERROR", "Finish.ERROR", "Finish.LENGTH"]
    engine.close()


def test_choices_are_drawn_apart_and_computed_together(model: Decoder) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=10, seed=5)
    told: dict[int, list[int]] = {0: [], 1: [], 2: []}
    engine = Engine(model, EngineConfig(max_seqs=2))  # the third waits, and finds its prompt in the cache
    engine.add(Job(PROMPTS[4], sampling, choices=3), lambda choice, delta: told[choice].extend(delta.ids))
    while engine.has_work:
        engine.step()
    assert engine.metrics.tokens_in < 2 * len(PROMPTS[4])
    for choice in told:
        alone: list[int] = []
        engine = Engine(model, EngineConfig())
        first = engine.add(
            Job(PROMPTS[4], sampling, choices=3),
            lambda one, delta, choice=choice, alone=alone: alone.extend(delta.ids) if one == choice else None,  # type: ignore[misc]
        )
        for other in first[:choice] + first[choice + 1 :]:
            engine.abort(other)
        while engine.has_work:
            engine.step()
        assert alone == told[choice]
    assert len({tuple(one) for one in told.values()}) == 3


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (Job([], Sampling()), "0 tokens"),
        (Job([1] * 256, Sampling()), "256 tokens"),
        (Job([64], Sampling()), "no token 64"),
        (Job([1], Sampling(logit_bias=((70, 1.0),))), "no token 70"),
        (Job([1], Sampling(grammar="x")), "grammars"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(model: Decoder, job: Job, told: str) -> None:
    engine = Engine(model, EngineConfig())
    with pytest.raises(BadJob, match=told):
        engine.add(job, lambda _, delta: None)
    assert not engine.has_work


def test_a_full_queue_says_so(model: Decoder) -> None:
    engine = Engine(model, EngineConfig(max_waiting=1))
    engine.add(Job([1], Sampling()), lambda _, delta: None)
    with pytest.raises(Full):
        engine.add(Job([2], Sampling()), lambda _, delta: None)


def test_length_and_stop_ids_end_a_sequence(model: Decoder) -> None:
    deltas: list[Delta] = []
    engine = Engine(model, EngineConfig())
    first = alone(model)[0]
    engine.add(Job(PROMPTS[0], Sampling(temperature=0.0, max_tokens=5)), lambda _, d: deltas.append(d))
    engine.add(
        Job(PROMPTS[0], Sampling(temperature=0.0, max_tokens=50, stop_ids=frozenset({first[2]}))),
        lambda _, delta: deltas.append(delta),
    )
    while engine.has_work:
        engine.step()
    assert {delta.finish for delta in deltas if delta.finish} == {Finish.LENGTH, Finish.STOP}


def test_keys_and_values_in_fp8_take_half_the_memory_and_say_much_the_same(model: Decoder) -> None:
    asked: dict[str, Any] = {"logprobs": 0, "max_tokens": 6}
    found = []
    for kind in ("auto", "fp8"):
        engine, told = Engine(model, EngineConfig(kv_cache_dtype=kind, kv_memory=1 << 17)), list[Delta]()
        sampling = Sampling(temperature=0.0, **asked)
        for prompt in PROMPTS[3:]:  # gathered together, and one by one
            engine.add(Job(prompt, sampling), lambda _, delta, told=told: told.append(delta))  # type: ignore[misc]
        while engine.has_work:
            engine.step()
        found.append((engine.pool.count, [one.drawn for delta in told for one in delta.logprobs][:3]))
    (plain_blocks, plain), (blocks, scores) = found
    assert blocks > 2 * plain_blocks, "fp32 has four bytes for each, fp8 one and its scale's share"
    assert scores == pytest.approx(plain, abs=0.2)
    assert scores != plain


def test_choices_share_fp8_blocks_until_they_write(model: Decoder) -> None:
    asked: dict[str, Any] = {"temperature": 1.0, "seed": 4}
    one = generate(Engine(model, EngineConfig(kv_cache_dtype="fp8")), PROMPTS[2:3], **asked)
    engine, out = Engine(model, EngineConfig(kv_cache_dtype="fp8")), [list[int](), list[int]()]
    sampling = Sampling(max_tokens=12, **asked)
    engine.add(Job(PROMPTS[2], sampling, choices=2), lambda choice, delta: out[choice].extend(delta.ids))
    while engine.has_work:
        engine.step()
    assert out[0] == one[0]
    assert out[1] != one[0]


def test_the_largest_step_is_tried_where_memory_is_counted(model: Decoder) -> None:
    seen: list[int] = []
    hook = model.norm.register_forward_hook(lambda _, given, found: seen.append(len(found)))
    largest_step(model, EngineConfig(step_tokens=600, max_seqs=8))
    hook.remove()
    assert seen == [600], "three texts, for the model reads no longer ones"
    assert step_bytes(model, EngineConfig()) == 0, "on a processor nothing is counted"


def test_weights_survive_export_and_load(model: Decoder, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    facts = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(facts))
    save_file(export(model), tmp_path / "model.safetensors")
    assert generate(Engine(load(tmp_path), EngineConfig()), PROMPTS[:2]) == alone(model)[:2]
    raw = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UnusableModel, match=r"model\.safetensors"):
        load(tmp_path)


def test_an_unknown_architecture_names_what_is_supported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["MambaForCausalLM"]}')
    with pytest.raises(UnusableModel, match="LlamaForCausalLM"):
        ModelConfig.load(tmp_path)


def test_an_answer_of_one_token_leaves_all_of_its_prompt(model: Decoder) -> None:
    engine, prompt = Engine(model, EngineConfig(step_tokens=20)), PROMPTS[5][:50]
    generate(engine, [prompt], max_tokens=1)
    generate(engine, [[*prompt, 1, 2, 3]], max_tokens=1)
    assert engine.scheduler.hit_tokens == 48


def test_real_weights_tell_their_published_story() -> None:
    """From karpathy/llama2.c:doc/stories260K.md, the greedy story of this checkpoint: 256 tokens, word for word."""
    folder = shared("models/stories260K")
    tokens: list[int] = []
    engine = Engine(load(folder), EngineConfig())
    engine.add(Job([1], Sampling(temperature=0.0, max_tokens=256)), lambda _, delta: tokens.extend(delta.ids))
    while engine.has_work:
        engine.step()
    text = Tokenizer(folder).decode(tokens).strip()
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
        "One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
        "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do."
    )
    assert text.endswith("Her mom said, \"Don't worry, Lily. We can help you.")
    assert len(text.split()) == 119
    whole = "30b2ffb07967932a88bfdf5e23b517a6f4cfcf7231db9e537360d3c12a4e4d10"
    assert hashlib.sha256(text.encode()).hexdigest() == whole, text


def test_metrics_tell_what_steps_are_spent_on(model: Decoder) -> None:
    ticks = count()
    engine = Engine(model, EngineConfig(), clock=lambda: float(next(ticks)))
    generate(engine, PROMPTS[:1])
    assert set(engine.metrics.phases) == {"plan", "launch", "settle"}
    generate(engine, PROMPTS[1:2], presence_penalty=1.0)
    assert set(engine.metrics.phases) == {"plan", "launch", "settle", "draw"}, "what waits for the last token"
    told = engine.metrics.render().decode()
    for phase, seconds in engine.metrics.phases.items():
        assert f'backend_step_phase_seconds_total{{phase="{phase}"}} {seconds:g}\n' in told
    assert f"backend_kv_blocks {engine.pool.count - 1}\n" in told
    assert "backend_kv_blocks_used 0\n" in told
