"""What a model's chat template or this machine has no way to honour is refused before anything is computed."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_backend import trial
from local_backend.config import BUNDLED
from local_backend.constraint import constraint
from local_backend.fields import Refused
from local_backend.formats import FORMATS, Unwritable
from local_backend.preparation import Preparation
from local_backend.template import ChatTemplate
from local_backend.tokenizer import Tokenizer
from local_backend.trial import Trial
from local_backend.voice import Voice
from local_backend.wire import Request, read

TOOLS = [{"type": "function", "function": {"name": "f"}}]
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"


def chat(**more: Any) -> Request:
    body = {"messages": [{"role": "user", "content": "hi"}], **more}
    return read(json.dumps(body).encode(), chat=True, default_tokens=9)


def preparation(template: str | None, format: str = "") -> Preparation:
    tokenizer = Tokenizer(BUNDLED)
    made = ChatTemplate(template, {}, datetime.now) if template else None
    voice = Voice.of(template or "", tokenizer, FORMATS.get(format))
    return Preparation(tokenizer, made, voice, Trial(BUNDLED))


async def refused(prepared: Preparation, request: Request) -> Refused:
    with pytest.raises(Refused) as error:
        await prepared.prepare(request)
    assert error.value.status == 400
    return error.value


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (PLAIN, "takes no tools"),
        (PLAIN + "{{ tools }}", "--tool-format"),
    ],
)
async def test_tools_that_would_be_lost_are_refused(template: str, told: str) -> None:
    error = await refused(preparation(template), chat(tools=TOOLS))
    assert error.param == "tools"
    assert told in str(error)


async def test_a_flag_tells_how_a_model_calls() -> None:
    prepared = await preparation(PLAIN + "{{ tools }}", "hermes").prepare(chat(tools=TOOLS))
    assert prepared.grammar == ""


async def test_calls_of_a_history_that_would_be_lost_are_refused() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}]
    error = await refused(preparation(PLAIN), chat(messages=messages))
    assert error.param == "messages[1].tool_calls"


@pytest.mark.parametrize("arguments", ["[" * 10**5, '{"a": "\\ud800"}', '{"a": NaN}', "{"])
async def test_arguments_of_a_history_that_hold_no_object_are_shown_as_they_are(arguments: str) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": arguments}}
    template = (
        "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments }}{% endfor %}{% endfor %}"
    )
    ready = preparation(template)
    prepared = await ready.prepare(chat(messages=[{"role": "assistant", "tool_calls": [call]}]))
    assert ready.tokenizer.decode(prepared.prompts[0]) == arguments


async def test_a_templates_argument_may_have_any_name() -> None:
    ready = preparation(PLAIN + "{{ more }}{{ now }}")
    arguments = {"self": 1, "more": "a", "facts": 2, "now": "b", "0": 3, "": 4}
    prepared = await ready.prepare(chat(chat_template_kwargs=arguments))
    assert ready.tokenizer.decode(prepared.prompts[0]) == "hiab"


async def test_without_llguidance_a_form_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "AVAILABLE", False)
    error = await refused(preparation(PLAIN), chat(response_format={"type": "json_object"}))
    assert error.param == "response_format"
    assert "pip install" in str(error)


async def test_what_a_format_cannot_demand_is_refused() -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": "x"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    prepared = preparation(PLAIN + "{{ tools }}", "qwen3-coder")
    error = await refused(prepared, chat(tools=tools, tool_choice="required"))
    assert (error.param, "pattern" in str(error)) == ("tools", True)


async def test_a_form_that_is_nested_without_end_is_refused() -> None:
    schema = b'{"items":' * 1000 + b"{}" + b"}" * 1000
    form = b'{"type": "json_schema", "json_schema": {"name": "x", "schema": ' + schema + b"}}"
    body = b'{"messages": [{"role": "user", "content": "x"}], "response_format": ' + form + b"}"
    prepared = preparation(PLAIN)
    try:
        error = await refused(prepared, read(body, chat=True, default_tokens=9))
    finally:
        await prepared.close()
    assert error.param == "response_format.json_schema.schema"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["string", "object", "a", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "required", "enum", "const", "items", "$ref", "$defs", "anyOf", "a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(sorted(FORMATS)))
def test_whatever_is_called_a_schema_is_taken_or_refused(schema: Any, format: str) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    try:
        request = chat(tools=tools, tool_choice="required")
        assert request.tools is not None
        text = constraint(None, request.tools, Voice(None, FORMATS[format]), "after")
    except (Refused, Unwritable):
        return
    assert json.loads(text)["grammars"]


async def test_a_token_that_is_none_is_named() -> None:
    assert (await refused(preparation(PLAIN), chat(logit_bias={"1024": 1}))).param == "logit_bias"
    assert (await refused(preparation(PLAIN), chat(stop_token_ids=[5, 2000]))).param == "stop_token_ids"
    await preparation(PLAIN).prepare(chat(logit_bias={"1023": 1}, stop_token_ids=[1023]))


async def test_without_a_template_there_is_no_chat() -> None:
    assert "/v1/completions" in str(await refused(preparation(None), chat()))


class Counting(Tokenizer):
    """Tells how much it was given to read at once."""

    largest = 0

    def encode(self, text: str, *, special: bool) -> list[int]:
        self.largest = max(self.largest, len(text))
        return super().encode(text, special=special)


@pytest.mark.parametrize("word", ["word ", "\N{FACE WITH TEARS OF JOY}"])
async def test_a_text_that_no_model_could_read_is_not_read_whole(word: str) -> None:
    tokenizer = Counting(BUNDLED)
    ready = Preparation(tokenizer, None, Voice(), Trial(BUNDLED))
    body = {"prompt": ["short", word * 100_000]}
    with pytest.raises(Refused) as error:
        await ready.prepare(read(json.dumps(body).encode(), chat=False, default_tokens=9), 1024)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "prompt")
    assert "1023" in str(error.value)
    assert tokenizer.largest < 10_000


async def test_a_long_text_of_few_tokens_is_read() -> None:
    bundled = Tokenizer(BUNDLED)
    longest = max(range(bundled.fast.get_vocab_size()), key=lambda token: len(bundled.bytes_of(token)))
    word = bundled.bytes_of(longest).decode()
    text = word * 2000
    few = len(bundled.encode(text, special=False)) + 1
    assert len(text) > 8 * (few + 128), "or this test is none"
    ready = preparation(None)
    found = await ready.prepare(
        read(json.dumps({"prompt": text}).encode(), chat=False, default_tokens=9), few
    )
    assert len(found.prompts[0]) == few - 1
