"""Drafts make fewer steps of the same answer: whatever is asked, whoever shares the batch, however little room."""

from concurrent.futures import wait
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

import local_backend  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.flags import build_parser, setup_of  # noqa: E402
from local_backend.grammar import Grammars  # noqa: E402
from local_backend.loader import load  # noqa: E402
from local_backend.model import Decoder  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.types import Delta, Job, Sampling  # noqa: E402
from tests.local_backend.test_engine import CONFIG, EveryThird  # noqa: E402
from tests.shared import shared  # noqa: E402

BUNDLED = Path(local_backend.__file__).parent / "bundled"
# Texts that repeat themselves, each in another rhythm; and one that does not.
PROMPTS = [list(islice(cycle(range(3 * at, 4 * at + 3)), 5 + 9 * at)) for at in range(5)] + [[5, 40, 2]]
PER_BLOCK = 4 * 2 * 2 * 2 * 8 * 16
Told = list[list[Delta]]


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(5)
    made = Decoder(CONFIG)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def answers(engine: Engine, prompts: list[list[int]], joins: int = 1, choices: int = 1, **asked: Any) -> Told:
    """What is told of each choice of each prompt, token by token; `joins` steps pass before the next one comes in."""
    sampling = Sampling(**{"temperature": 0.0, "max_tokens": 40, **asked})
    told: Told = [[] for _ in range(len(prompts) * choices)]
    for index, prompt in enumerate(prompts):
        first = index * choices
        engine.add(
            Job(prompt, sampling, choices),
            lambda choice, delta, first=first: told[first + choice].append(delta),  # type: ignore[misc]
        )
        wait(engine._compiling.futures if engine._compiling else ())  # or who comes when is left to chance
        for _ in range(joins):
            engine.step()
    while engine.has_work:
        engine.step()
        engine.pool.check_integrity([one.table for one in engine.scheduler.sequences()])
    assert engine.pool.used == 0
    engine.close()
    return told


def plain(told: Told) -> list[Any]:
    """Ids and ends; values of logprobs apart, which may differ in the last bits."""
    return [[(delta.ids, delta.finish) for delta in one] for one in told]


# Draws among three tokens: they repeat themselves, and not always.
FEW = ((3, 9.0), (4, 9.0), (5, 9.0))
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "seeded": {"temperature": 0.7, "seed": 11, "logit_bias": FEW},
    "filtered": {"temperature": 1.5, "top_p": 0.9, "top_k": 3, "min_p": 0.01, "seed": 2, "logit_bias": FEW},
    "penalised": {
        "frequency_penalty": 0.2,
        "presence_penalty": 0.5,
        "repetition_penalty": 1.05,
        "logit_bias": FEW,
    },
    "penalised and seeded": {"temperature": 0.7, "frequency_penalty": 0.1, "seed": 4, "logit_bias": FEW},
    "grammar": {"grammar": "every third", "temperature": 1.0, "logit_bias": (*FEW, (6, 9.0))},
    "choices": {"choices": 3, "temperature": 0.7, "seed": 9, "logit_bias": FEW},
    "logprobs": {"logprobs": 3, "temperature": 0.7, "logit_bias": FEW},
}


HOW: dict[str, dict[str, Any]] = {
    "preempting": {"kv_memory": PER_BLOCK * 12}, "overlapping": {"overlap": True},
    "in pieces": {"step_tokens": 7}, "waiting": {"max_seqs": 2},
}  # fmt: skip
PAIRS = [
    *product(ASKED, ("preempting", "overlapping")),
    *product(("seeded", "grammar", "choices"), ("in pieces", "waiting")),
]


@pytest.mark.parametrize(("kind", "how"), PAIRS, ids=map("-".join, PAIRS))
def test_drafts_change_nothing_but_the_number_of_steps(model: Decoder, kind: str, how: str) -> None:
    asked, config = ASKED[kind], HOW[how]
    found, engines = [], []
    for speculate in (0, 5):
        engine = Engine(model, EngineConfig(speculate=speculate, **config), compile=lambda text: EveryThird())
        found.append(answers(engine, PROMPTS, **asked))
        engines.append(engine)
    off, on = engines
    assert plain(found[1]) == plain(found[0])
    assert on.metrics.drafts > on.metrics.drafts_drawn > 0
    assert off.metrics.drafts == 0
    assert on.metrics.steps < off.metrics.steps
    assert bool(on.metrics.preemptions) == bool(off.metrics.preemptions) == ("kv_memory" in config)
    assert on.metrics.tokens_out == off.metrics.tokens_out
    assert on.metrics.finished == off.metrics.finished
    for before, after in zip(found[0], found[1], strict=True):
        for one, other in zip(before, after, strict=True):
            assert len(one.logprobs) == len(other.logprobs) == ("logprobs" in asked) * len(one.ids)
            for score, again in zip(one.logprobs, other.logprobs, strict=True):
                assert again.drawn == pytest.approx(score.drawn, abs=1e-4)
                assert [i for i, _ in again.likeliest] == [i for i, _ in score.likeliest]


@pytest.mark.parametrize("length", range(1, 12))
def test_an_end_within_the_drafts_is_the_same_end(model: Decoder, length: int) -> None:
    """By length, and by a stop id that min_tokens puts off."""
    prompt = PROMPTS[2]
    said = [delta.ids[0] for delta in answers(Engine(model, EngineConfig()), [prompt])[0]]
    stops = frozenset({said[length]})
    for asked in ({"max_tokens": length}, {"stop_ids": stops}, {"stop_ids": stops, "min_tokens": length}):
        off = answers(Engine(model, EngineConfig()), [prompt], **asked)
        engine = Engine(model, EngineConfig(speculate=8))
        assert plain(answers(engine, [prompt], **asked)) == plain(off)


def test_a_text_that_repeats_takes_few_steps(model: Decoder) -> None:
    """A draw that is biased to one token: one step for the prompt, two for a match, then nine tokens a step."""
    engine = Engine(model, EngineConfig(speculate=8))
    (told,) = answers(engine, [[7]], max_tokens=93, logit_bias=((7, 100.0),))
    assert [one.ids for one in told] == [(7,)] * 93
    assert engine.metrics.steps == 13
    assert (engine.metrics.drafts, engine.metrics.drafts_drawn) == (80, 80)


def test_drafts_that_were_drawn_are_found_by_the_next_prompt(model: Decoder) -> None:
    engine = Engine(model, EngineConfig(speculate=8))
    answers(engine, [[7]], max_tokens=64, logit_bias=((7, 100.0),))
    answers(engine, [[7] * 70])
    assert engine.scheduler.hit_tokens == 64, "the last block was filled by drafts of the last step"


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("steps", [4, 5, 6])
def test_an_abort_amid_drafts_gives_every_block_back(model: Decoder, steps: int, overlap: bool) -> None:
    engine = Engine(model, EngineConfig(speculate=8, overlap=overlap))
    told: list[Delta] = []
    sampling = Sampling(temperature=0.0, max_tokens=90, logit_bias=((7, 100.0),))
    added = [
        one for prompt in PROMPTS for one in engine.add(Job(prompt, sampling), lambda _, d: told.append(d))
    ]
    for _ in range(steps):
        engine.step()
    for sequence in added:
        engine.abort(sequence)
        engine.pool.check_integrity([one.table for one in engine.scheduler.sequences()])
    count = len(told)
    while engine.has_work:
        engine.step()
    assert engine.pool.used == 0
    assert len(told) == count, "nothing comes after the end"
    engine.close()


def test_drafts_take_no_block_that_a_neighbour_needs(model: Decoder) -> None:
    """Three blocks: the first could fill its second with drafts, before the other has come to its own."""
    engine = Engine(model, EngineConfig(speculate=2, kv_memory=PER_BLOCK * 4))
    repeating, other = ((7, 100.0),), ()
    for prompt, bias, length in (([7] * 7, repeating, 30), (list(range(10)), other, 8)):
        sampling = Sampling(temperature=0.0, max_tokens=length, logit_bias=bias)
        engine.add(Job(prompt, sampling), lambda _, delta: None)
    while engine.has_work:
        engine.step()
    assert engine.metrics.preemptions == 0
    assert engine.metrics.drafts_drawn > 0, "once it is alone"


@pytest.fixture(scope="module")
def bundled() -> Decoder:
    return load(BUNDLED)


GRAMMARS = {
    "a count": r'{"grammars": [{"lark_grammar": "start: /(one two, ){12,16}/ \"end\""}]}',
    "a schema": '{"grammars": [{"json_schema": {"type": "array", "minItems": 6, "maxItems": 9, '
    '"items": {"type": "object", "properties": {"word": {"enum": ["left", "right"]}}, "required": ["word"], '
    '"additionalProperties": false}}}]}',
}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_real_grammars_end_and_allow_the_same(bundled: Decoder, grammar: str, temperature: float) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed: make .make/local")
    found = []
    for speculate in (0, 8):
        engine = Engine(bundled, EngineConfig(speculate=speculate), compile=Grammars(BUNDLED))
        asked: dict[str, Any] = {"grammar": grammar, "temperature": temperature, "max_tokens": 150, "seed": 1}
        found.append((engine, plain(answers(engine, [[1, 2, 3], [4, 5]], **asked))))
    (off, before), (on, after) = found
    assert after == before
    assert on.metrics.drafts_drawn > 5
    assert on.metrics.steps < off.metrics.steps


def test_real_weights_tell_the_same_story_in_fewer_steps() -> None:
    model = load(shared("models/stories260K"))
    engines = [Engine(model, EngineConfig(speculate=speculate)) for speculate in (0, 8)]
    off, on = (answers(engine, [[1]], max_tokens=256) for engine in engines)
    assert plain(on) == plain(off)
    assert engines[1].metrics.steps < 0.8 * engines[0].metrics.steps


def test_the_option_reaches_the_engine_and_is_off_without(tmp_path: Path) -> None:
    def setup(*flags: str) -> int:
        args = build_parser().parse_args(["--model", "bundled", *flags])
        return setup_of(args, tmp_path).config.speculate

    assert (setup(), setup("--speculate", "8")) == (0, 8)
    for wrong in ("-1", "65", "many"):
        with pytest.raises(SystemExit):
            setup("--speculate", wrong)


def test_what_was_proposed_and_accepted_is_told(model: Decoder) -> None:
    engine = Engine(model, EngineConfig(speculate=8))
    answers(engine, [[7]], max_tokens=93, logit_bias=((7, 100.0),))
    told = engine.metrics.render().decode()
    assert "\nbackend_speculation_proposed_total 80\n" in told
    assert "\nbackend_speculation_accepted_total 80\n" in told
