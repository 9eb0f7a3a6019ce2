"""Grammars: every output keeps them, whatever the logits, the company, the room and the order of steps."""

import itertools
import json
import random
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any

import jsonschema
import numpy
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip("llguidance", reason="llguidance is not installed: make .make/local")

from local_backend.config import BUNDLED, ModelConfig  # noqa: E402
from local_backend.constraint import (  # noqa: E402
    Form,
    alone,
    constraint,
    of_choice,
    of_lark,
    of_regex,
    of_schema,
)
from local_backend.engine import Engine  # noqa: E402
from local_backend.formats import FORMATS, Unwritable  # noqa: E402
from local_backend.grammar import BadGrammar, Grammars  # noqa: E402
from local_backend.model import Decoder  # noqa: E402
from local_backend.options import EngineConfig  # noqa: E402
from local_backend.reasoning import KNOWN  # noqa: E402
from local_backend.tokenizer import Tokenizer  # noqa: E402
from local_backend.tools import Tools  # noqa: E402
from local_backend.types import Delta, Finish, Job, Sampling  # noqa: E402
from local_backend.voice import Stance, Voice  # noqa: E402
from tests.shared import shared  # noqa: E402

CONFIG = ModelConfig(
    vocab_size=1024, hidden_size=32, intermediate_size=48, layers=1, heads=4, kv_heads=2, head_dim=8,
    max_positions=1024, rms_eps=1e-5, rope_theta=10000.0, tied=True, eos=(0,), bos=None, temperature=1.0,
)  # fmt: skip
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 6},
            "kind": {"enum": ["a", 'b"c', "ü", 5, None]},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": -3, "maximum": 40}, "maxItems": 3},
            "more": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/point"}]},
        },
        "required": ["name", "kind", "sizes", "more"],
        "additionalProperties": False,
        "$defs": {
            "point": {
                "type": "object",
                "properties": {"x": {"type": "boolean"}, "y": {"type": "boolean"}},
                "required": ["x"],
                "additionalProperties": False,
            }
        },
    },
    {"type": "array", "items": {"type": "string", "pattern": "^[a-c]{2}$"}, "minItems": 1, "maxItems": 4},
    {"type": "string", "format": "date"},
    {"type": "integer", "multipleOf": 7, "minimum": 100, "maximum": 1000},
    {"const": {"mark": "<|end|><tool_call>"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(BUNDLED)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(BUNDLED)


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(5)
    made = Decoder(CONFIG)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def bits(mask: Any) -> list[int]:
    return [int(one) for one in numpy.nonzero(numpy.unpackbits(mask.view(numpy.uint8), bitorder="little"))[0]]


def walk(
    matcher: Any, tokenizer: Tokenizer, dice: random.Random, taken: Callable[[list[int]], int] | None = None
) -> str:
    """A text that the grammar allows, drawn at random, up to its end."""
    ids: list[int] = []
    while not matcher.over and len(ids) < 600:
        allowed = bits(matcher.mask())
        token = taken(allowed) if taken else dice.choice(allowed)
        assert matcher.accept(token)
        if token not in tokenizer.specials:
            ids.append(token)
    return tokenizer.decode(ids)


# the state of a grammar


def test_a_mask_allows_what_can_be_accepted(grammars: Grammars, tokenizer: Tokenizer) -> None:
    a, b = (tokenizer.encode(one, special=False)[0] for one in "ab")
    pairs = [tokenizer.encode(one, special=False) for one in ("aa", "ab", "ba", "bb")]
    matcher = grammars(alone(of_regex("[ab]{1,2}")))
    assert matcher.mask().shape == (32,)
    assert bits(matcher.mask()) == sorted([a, b, *(ids[0] for ids in pairs if len(ids) == 1)])
    assert matcher.accept(a)
    assert 0 in bits(matcher.mask()), "it may end here"
    assert not matcher.over
    assert matcher.accept(b)
    assert matcher.over


def test_drafts_can_be_taken_back(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars(alone(of_schema(SCHEMAS[0])))
    ids = tokenizer.encode('{"name": "ab", "kind": 5', special=False)
    masks = []
    for token in ids:
        masks.append(bits(matcher.mask()))
        assert matcher.accept(token)
    for count in (1, 4, len(ids) - 5):
        matcher.rollback(count)
        del masks[len(masks) - count + 1 :]
        assert bits(matcher.mask()) == masks[-1]
        del masks[-1:]
    assert not matcher.over


def test_choices_of_one_text_go_their_own_ways(grammars: Grammars, tokenizer: Tokenizer) -> None:
    text = alone(of_choice(["ab", "cd"]))
    first, second = grammars(text), grammars(text)
    assert first.accept(tokenizer.encode("a", special=False)[0])
    assert bits(first.mask()) != bits(second.mask())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (of_schema({"type": "frob"}), "frob"),
        (of_schema({"not": {}}), "not"),
        (of_schema({"type": "object", "required": ["a"], "additionalProperties": False}), "nsatisfiable"),
        (of_schema({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}), "nothing can be written"),
        (of_regex("(a"), "regex"),
        (of_lark("start: ("), "Expected token"),
        (of_lark("start: a\na: a"), "nothing can be written"),
    ],
)
def test_what_is_no_grammar_says_why(grammars: Grammars, entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadGrammar) as refused:
        grammars(alone(entry))
    assert reason in str(refused.value)
    assert len(str(refused.value)) <= 500


@pytest.mark.parametrize("text", ["a/b", r"a\/b", "a\nb", r"a\\/b"])
def test_a_pattern_means_what_it_says(grammars: Grammars, tokenizer: Tokenizer, text: str) -> None:
    said = walk(grammars(alone(of_regex(text))), tokenizer, random.Random(1))
    assert re.fullmatch(text, said)


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
def test_other_vocabularies_keep_their_schemas_too(name: str, tmp_path: Path) -> None:
    """Bytes as letters; and spaces as a letter that every text begins with, and bytes by name."""
    (tmp_path / "tokenizer.json").write_bytes(shared(f"tokenizers/{name}/tokenizer.json").read_bytes())
    tokenizer = Tokenizer(tmp_path)
    facts = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "max_position_embeddings": 64, "vocab_size": tokenizer.fast.get_vocab_size(),
        "eos_token_id": max(tokenizer.specials),
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(facts))
    grammars, dice = Grammars(tmp_path), random.Random(2)
    for schema in SCHEMAS * 3:
        jsonschema.validate(json.loads(walk(grammars(alone(of_schema(schema))), tokenizer, dice)), schema)
    tools = Tools([], TOOLS, forced=True, most=1)
    for format in FORMATS.values():
        text = constraint(None, tools, Voice(None, format), "after")
        said = walk(grammars(text), tokenizer, dice)
        assert len(Voice(None, format).ear("after", tools).feed(said, last=True).calls) == 1


# what is asked, as a grammar


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_random_texts_keep_their_schema(
    grammars: Grammars, tokenizer: Tokenizer, schema: dict[str, Any]
) -> None:
    form = Form(of_schema(schema), "x")
    text = constraint(form, None, Voice(), "after")
    dice = random.Random(3)
    for _ in range(25):
        jsonschema.validate(json.loads(walk(grammars(text), tokenizer, dice)), schema)


TOOLS: dict[str, Any] = {
    "set": {
        "type": "object",
        "properties": {
            "word": {"type": "string", "enum": ["yes", "n<o"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
            "on": {"type": "boolean"},
        },
        "required": ["word", "count"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("stance", ["before", "inside", "after"])
def test_demanded_calls_are_calls_and_keep_their_schemas(
    grammars: Grammars, tokenizer: Tokenizer, name: str, most: int | None, stance: Stance
) -> None:
    voice = Voice(KNOWN[0], FORMATS[name])
    tools = Tools([], TOOLS, forced=True, most=most)
    text = constraint(None, tools, voice, stance)
    assert constraint(Form({}, "x"), tools, voice, stance) == text, (
        "a call that is demanded goes before a form"
    )
    dice = random.Random(4)
    seen = set()
    for _ in range(12):
        said = walk(grammars(text), tokenizer, dice, _closing(dice, tokenizer))
        part = voice.ear(stance, tools).feed(said, last=True)
        assert part.content == ""
        assert part.calls
        assert most is None or len(part.calls) == most
        for call in part.calls:
            jsonschema.validate(json.loads(call.arguments), TOOLS[call.name])
            seen.add(call.name)
    assert seen == {"set", "now"}


def _closing(dice: random.Random, tokenizer: Tokenizer) -> Callable[[list[int]], int]:
    """Draws that end thoughts before long: where all is allowed, the letters of their closing mark, one by one."""
    mark = [tokenizer.encode(one, special=False)[0] for one in "</think>"]
    wanted = itertools.cycle(mark)
    state = {"next": next(wanted), "count": 0}

    def draw(allowed: list[int]) -> int:
        state["count"] += 1
        if state["count"] > 5 and len(allowed) > 900:  # free text
            token = state["next"]
            state["next"] = next(wanted)
            return int(token)
        return 0 if 0 in allowed and dice.random() < 0.5 else dice.choice(allowed)

    return draw


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_strict_tools_bind_a_call_once_it_has_begun(
    grammars: Grammars, tokenizer: Tokenizer, name: str
) -> None:
    voice = Voice(None, FORMATS[name])
    tools = Tools([], TOOLS, strict=frozenset(["set"]))
    matcher = grammars(constraint(None, tools, voice, "after"))
    words = {
        "hermes": '<tool_call>\n{"name": "set", "arguments": {"word": "',
        "llama3": '{"name": "set", "parameters": {"word": "',
        "mistral": '[TOOL_CALLS][{"name": "set", "arguments": {"word": "',
        "mistral-named": '[TOOL_CALLS]set[ARGS]{"word": "',
        "qwen3-coder": "<tool_call>\n<function=set>\n<parameter=word>\n",
    }[name]
    before = "" if name == "llama3" else "So: "
    for token in tokenizer.encode(before + words, special=False):
        assert matcher.accept(token)
    allowed = {tokenizer.decode([token])[:1] for token in bits(matcher.mask())}
    assert allowed == {"y", "n"}
    free = grammars(constraint(None, tools, voice, "after"))
    for token in tokenizer.encode("Nothing to call, <b>.", special=False):
        assert free.accept(token)
    assert 0 in bits(free.mask())


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("ab\n</parameter>\n", "ab"),
        ("ab</parameter>\n", "ab"),
        ("\n\nab\n\n</parameter>\n", "\n\nab\n"),
        ("ab</parameter>x\n</parameter>\n", None),
    ],
)
def test_a_bare_text_ends_where_its_reader_sees_the_end(
    grammars: Grammars, tokenizer: Tokenizer, said: str, word: str | None
) -> None:
    voice = Voice(None, FORMATS["qwen3-coder"])
    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    tools = Tools([], {"set": schema}, forced=True, most=1)
    text = f"<tool_call>\n<function=set>\n<parameter=word>\n{said}</function>\n</tool_call>"
    matcher = grammars(constraint(None, tools, voice, "after"))
    kept = all(matcher.accept(token) for token in tokenizer.encode(text, special=False))
    assert kept == (word is not None)
    if kept:
        (call,) = voice.ear("after", tools).feed(text, last=True).calls
        assert json.loads(call.arguments) == {"word": word}


def test_a_form_leaves_calls_open(grammars: Grammars, tokenizer: Tokenizer) -> None:
    voice = Voice(None, FORMATS["hermes"])
    text = constraint(Form(of_choice(["yes"]), "x"), Tools([], TOOLS), voice, "after")
    first = {tokenizer.decode([token])[:1] for token in bits(grammars(text).mask())}
    assert first == {"y", "<"}


def test_what_asks_nothing_has_no_grammar() -> None:
    voice = Voice(KNOWN[0], FORMATS["hermes"])
    assert constraint(None, None, voice, "before") == ""
    assert constraint(None, Tools([], TOOLS), voice, "before") == ""


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"a>b": {}}, "a>b"),
        ({"a": {"type": "string", "pattern": "x"}}, "pattern"),
        ({"a": {"type": "string", "enum": ["x</parameter>"]}}, "</parameter>"),
    ],
)
def test_what_a_format_cannot_write_is_told(properties: dict[str, Any], reason: str) -> None:
    tools = Tools([], {"f": {"type": "object", "properties": properties}}, forced=True)
    with pytest.raises(Unwritable, match=reason):
        constraint(None, tools, Voice(None, FORMATS["qwen3-coder"]), "after")


# in the engine


@pytest.mark.parametrize("overlap", [False, True], ids=["one by one", "overlapping"])
@pytest.mark.parametrize("room", [1 << 20, 12 * 2048], ids=["room for all", "preempting"])
def test_all_outputs_keep_their_schema_under_random_logits(
    model: Decoder, grammars: Grammars, tokenizer: Tokenizer, overlap: bool, room: int
) -> None:
    engine = Engine(model, EngineConfig(overlap=overlap, kv_memory=room), compile=grammars)
    told: dict[int, list[int]] = {}
    ends: dict[int, Finish] = {}

    def add(number: int, schema: dict[str, Any] | None) -> None:
        grammar = alone(of_schema(schema)) if schema else ""
        sampling = Sampling(temperature=1.5, seed=number, max_tokens=300 if schema else 40, grammar=grammar)
        told[number] = []

        def hear(_: int, delta: Any) -> None:
            told[number].extend(delta.ids)
            if delta.finish:
                ends[number] = delta.finish

        engine.add(Job([5 + number % 7] * (number % 20 + 1), sampling), hear)

    for number in range(30):
        add(number, SCHEMAS[number % 6] if number % 6 < 5 else None)
    while engine.has_work:
        engine.step()
    for number, ids in told.items():
        if number % 6 < 5:
            assert ends[number] is Finish.STOP
            jsonschema.validate(json.loads(tokenizer.decode(ids)), SCHEMAS[number % 6])
    assert (engine.scheduler.preemptions > 0) == (room < 1 << 20)
    assert engine.pool.used == 0
    engine.close()


def test_a_grammar_that_is_over_ends_without_another_draw(
    model: Decoder, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    engine = Engine(model, EngineConfig(), compile=grammars)
    ids: list[int] = []
    ends: list[Finish | None] = []
    # min_tokens forbids the end of the text, and the grammar all that would be longer
    sampling = Sampling(grammar=alone(of_choice(["ok"])), max_tokens=50, min_tokens=40)

    def hear(_: int, delta: Delta) -> None:
        ids.extend(delta.ids)
        ends.append(delta.finish)

    engine.add(Job([1], sampling), hear)
    while engine.has_work:
        engine.step()
    assert tokenizer.decode(ids) == "ok"
    assert ends[-1] is Finish.STOP
    engine.close()


def test_rows_without_a_grammar_do_not_wait_for_one(model: Decoder, grammars: Grammars) -> None:
    compiled = Event()

    def slow(text: str) -> Any:
        assert compiled.wait(20)
        return grammars(text)

    engine = Engine(model, EngineConfig(), compile=slow)
    ended: list[str] = []
    asked = Sampling(max_tokens=9, grammar=alone(of_choice(["ok"])))
    engine.add(Job([1], asked), lambda _, delta: ended.extend(["late"] * bool(delta.finish)))
    engine.add(Job([1], Sampling(max_tokens=9)), lambda _, delta: ended.extend(["free"] * bool(delta.finish)))
    while not ended:
        engine.step()
    assert ended == ["free"]
    compiled.set()
    while engine.has_work:
        engine.step()
    assert ended == ["free", "late"]
    engine.close()


class DoneAMomentLater(Future[Any]):
    """One that is done between two questions."""

    def __init__(self, done: "Future[Any]") -> None:
        super().__init__()
        self.set_result(done.result())
        self._asked = 0

    def done(self) -> bool:
        self._asked += 1
        return self._asked > 1


def test_a_grammar_that_is_done_while_the_engine_looks_is_not_lost(
    model: Decoder, grammars: Grammars
) -> None:
    engine = Engine(model, EngineConfig(), compile=grammars)
    ends: list[Finish | None] = []
    asked = Sampling(max_tokens=9, grammar=alone(of_choice(["ok"])))
    engine.add(Job([1], asked), lambda _, delta: ends.append(delta.finish))
    assert engine._compiling is not None
    ((future, sequences),) = engine._compiling._jobs
    engine._compiling._jobs = [(DoneAMomentLater(future), sequences)]
    while engine.has_work:
        engine.step()
    assert ends[-1] is Finish.STOP
    engine.close()
