"""Text in and out: templates render, streamed text equals the whole, stop strings are found wherever they lie."""

import random

import pytest

from local_backend.detok import Detokenizer
from local_backend.template import BadConversation, ChatTemplate
from local_backend.tokenizer import Tokenizer
from tests.shared import shared

TEXTS = ["Hello, world! 12 + 3 = 15.", "Grüße 👋🏽 aus München — 東京 नमस्ते", "a\n\n  b\t{}[]\"'\\"]


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
@pytest.mark.parametrize("text", TEXTS)
def test_streamed_text_equals_the_full_decode(name: str, text: str) -> None:
    tokenizer = Tokenizer(shared(f"tokenizers/{name}"))
    ids = tokenizer.encode(text, special=False)
    detok = Detokenizer(tokenizer)
    streamed = "".join(detok.feed([token]) for token in ids) + detok.end()[0]
    assert streamed.lstrip() == tokenizer.decode(ids).lstrip()


@pytest.mark.parametrize("seed", range(20))
def test_a_stop_string_is_found_for_every_way_the_tokens_fall(seed: int) -> None:
    dice = random.Random(seed)
    tokenizer = Tokenizer(shared("tokenizers/gpt-2"))
    text = "one two three END four"
    ids = tokenizer.encode(text, special=False)
    stop = dice.choice(["END", "ree E", "two", " four"])
    detok = Detokenizer(tokenizer, [stop, "never"])
    out, at = "", 0
    while at < len(ids):
        size = dice.randrange(1, 4)
        out += detok.feed(ids[at : at + size])
        at += size
    rest, cut = detok.end()
    assert (out + rest, cut) == (text[: text.index(stop)], True)


TEMPLATES = [
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "meta-llama-Llama-3.1-8B-Instruct",
    "google-gemma-2-2b-it",
    "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "ibm-granite-granite-3.3-2B-Instruct",
]


@pytest.mark.parametrize("name", TEMPLATES)
def test_published_templates_render(name: str) -> None:
    source = shared(f"templates/{name}.jinja").read_text()
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    turns = [("user", "ping"), ("assistant", "pong"), ("user", "again")]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = template.render(messages, add_generation_prompt=True)
    assert text.index("ping") < text.index("pong") < text.index("again")


def test_a_template_cannot_reach_out() -> None:
    template = ChatTemplate("{{ ''.__class__.__mro__ }}", {})
    with pytest.raises(BadConversation):
        template.render([], add_generation_prompt=False)


def test_what_a_message_holds_is_never_a_template() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    assert (
        template.render([{"role": "user", "content": "{{ 7*7 }}"}], add_generation_prompt=False)
        == "{{ 7*7 }}"
    )
