"""Text in and out: streamed text equals the whole, stop strings are found wherever they lie."""

import random

import pytest

from local_backend.detok import Detokenizer
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
