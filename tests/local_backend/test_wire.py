"""The wire, inwards: every field is honoured, harmless or refused by name; nonsense is told, never obeyed."""

import gzip
import json
from functools import cache
from typing import Any

import pytest
import yaml

from local_backend import fields
from local_backend.fields import Refused
from local_backend.wire import Request, read, read_embedding
from tests.shared import shared

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**more: Any) -> Request:
    return read(json.dumps({"messages": MESSAGES, **more}).encode(), chat=True, default_tokens=100)


def text(**more: Any) -> Request:
    return read(json.dumps({"prompt": "hi", **more}).encode(), chat=False, default_tokens=100)


def refusal(body: bytes, chat: bool = True) -> Refused:
    with pytest.raises(Refused) as refused:
        read(body, chat=chat, default_tokens=100)
    assert refused.value.status == 400
    return refused.value


@pytest.mark.parametrize(
    ("schema", "honoured"),
    [
        ("CreateChatCompletionRequest", fields.CHAT),
        ("CreateCompletionRequest", fields.TEXT),
        ("CreateEmbeddingRequest", fields.EMBEDDING),
    ],
)
def test_every_published_field_lies_in_exactly_one_list(schema: str, honoured: frozenset[str]) -> None:
    published = _published()
    for name in _names(published, schema):
        lists = [name in honoured, name in fields.HARMLESS, name in fields.REFUSED]
        assert sum(lists) == 1, f"{name} is in {sum(lists)} lists"


def test_the_lists_do_not_overlap() -> None:
    honoured = fields.CHAT | fields.TEXT | fields.EMBEDDING
    assert not honoured & fields.HARMLESS
    assert not honoured & fields.REFUSED.keys()
    assert not fields.HARMLESS & fields.REFUSED.keys()


@cache
def _published() -> dict[str, Any]:
    path = shared("specs/openai-openapi.yaml.gz")
    with gzip.open(path) as spec:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        schemas: dict[str, Any] = yaml.load(spec, Loader=loader)["components"]["schemas"]
    return schemas


def _names(schemas: dict[str, Any], name: str) -> set[str]:
    schema = schemas[name]
    found = set(schema.get("properties", ()))
    for part in schema.get("allOf", ()):
        found |= _names(schemas, part["$ref"].split("/")[-1]) if "$ref" in part else set(part["properties"])
    return found


def test_what_a_draw_is_told_reaches_it() -> None:
    asked = chat(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, seed=5, presence_penalty=-1, frequency_penalty=2,
        repetition_penalty=1.2, logit_bias={"5": -100, "9": 1.5}, max_completion_tokens=9, min_tokens=3,
        ignore_eos=True, stop_token_ids=[4], logprobs=True, top_logprobs=3,
    ).sampling  # fmt: skip
    assert (asked.temperature, asked.top_p, asked.top_k, asked.min_p, asked.seed) == (0.5, 0.9, 7, 0.1, 5)
    assert (asked.presence_penalty, asked.frequency_penalty, asked.repetition_penalty) == (-1, 2, 1.2)
    assert asked.logit_bias == ((5, -100.0), (9, 1.5))
    assert (asked.max_tokens, asked.min_tokens, asked.ignore_eos) == (9, 3, True)
    assert (asked.stop_ids, asked.logprobs) == (frozenset({4}), 3)


def test_logprobs_without_alternatives_are_of_the_drawn_token_alone() -> None:
    assert chat(logprobs=True).sampling.logprobs == 0
    assert chat(logprobs=False).sampling.logprobs is None
    assert text(logprobs=0).sampling.logprobs == 0
    assert text().sampling.logprobs is None


def test_the_new_name_of_a_limit_goes_before_the_old_one() -> None:
    assert chat(max_tokens=5, max_completion_tokens=7).sampling.max_tokens == 7
    assert chat().sampling.max_tokens == 100
    assert text().sampling.max_tokens == 16


def test_null_is_as_good_as_absent() -> None:
    nothing = dict.fromkeys((fields.CHAT | fields.HARMLESS | fields.REFUSED.keys()) - {"messages"})
    asked = chat(**nothing, seed_of_nothing=None)
    assert (asked.choices, asked.stream, asked.stops) == (1, False, [])


def test_harmless_fields_are_taken() -> None:
    chat(user="u", metadata={"a": "b"}, store=True, service_tier="auto", verbosity="low", prediction={})


@pytest.mark.parametrize("name", sorted(fields.REFUSED))
def test_what_would_change_the_answer_is_refused_by_name(name: str) -> None:
    error = refusal(json.dumps({"messages": MESSAGES, name: {"some": "thing"}}).encode())
    assert (error.param, error.code) == (name, "unsupported_parameter")
    assert name in str(error)


def test_values_that_ask_for_nothing_are_taken() -> None:
    chat(functions=[], modalities=["text"], function_call="none")
    text(suffix="", best_of=1)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"n": 10**9}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 10**30}, "n"),
        ({"seed": 2**70}, "seed"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 101}, "min_tokens"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"stop": [""]}, "stop"),
        ({"stop": 0}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"model": 5}, "model"),
        ({"cache_salt": {}}, "cache_salt"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ],
)
def test_a_wrong_value_names_its_field(more: dict[str, Any], param: str) -> None:
    assert refusal(json.dumps({"messages": MESSAGES, **more}).encode()).param == param


@pytest.mark.parametrize(
    "prompt", [None, [], 5, [["x"]], [1, "x"], [1.5], [True, False], {}, [2**40], ["x"] * 2049]
)
def test_a_prompt_that_is_none_is_refused(prompt: Any) -> None:
    assert refusal(json.dumps({"prompt": prompt}).encode(), chat=False).param == "prompt"


def test_echoed_logprobs_are_refused() -> None:
    assert refusal(b'{"prompt": "x", "echo": true, "logprobs": 1}', chat=False).param == "logprobs"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"messages": "\xc3\x28"}',
        b'{"messages": "\\ud800"}',
        b'{"temperature": NaN}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_json_object_says_so(body: bytes) -> None:
    error = refusal(body)
    assert error.code == "invalid_json"
    assert set(json.loads(error.body())["error"]) == {"message", "type", "param", "code"}


def test_parts_of_text_are_one_text_and_developers_are_systems() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = chat(messages=[{"role": "developer", "content": parts}])
    assert asked.messages == [{"role": "system", "content": "ab"}]


def test_continuing_a_message_opens_no_new_one() -> None:
    assert not chat(continue_final_message=True).rendering.add_generation_prompt


def test_an_embedding_takes_texts_and_ids() -> None:
    asked = read_embedding(b'{"input": [[1, 2], [3]], "dimensions": 8, "encoding_format": "base64"}')
    assert (asked.inputs, asked.dimensions, asked.base64) == ([[1, 2], [3]], 8, True)
    for body, param in [
        (b"{}", "input"),
        (b'{"input": ""}', "input"),
        (b'{"input": "x", "encoding_format": "hex"}', "encoding_format"),
        (b'{"input": "x", "dimensions": 0}', "dimensions"),
        (b'{"input": "x", "messages": []}', "messages"),
    ]:
        with pytest.raises(Refused) as refused:
            read_embedding(body)
        assert refused.value.param == param


def test_one_call_gets_so_many_answers_and_no_more() -> None:
    assert text(prompt=["a"] * 16, n=128).choices == 128
    body = json.dumps({"prompt": ["a"] * 17, "n": 128}).encode()
    assert refusal(body, chat=False).param == "n"
