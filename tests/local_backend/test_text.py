"""Text in and out: streamed text equals the whole, stop strings are found wherever they lie."""

import random
from functools import cache

import pytest

from local_backend.detok import Detokenizer
from local_backend.tokenizer import Tokenizer
from tests.shared import shared

TEXTS = ["Hello, world! 12 + 3 = 15.", "Grüße 👋🏽 aus München — 東京 नमस्ते", "a\n\n  b\t{}[]\"'\\"]


@cache
def tokenizer_of(name: str) -> Tokenizer:
    """Read once: it is the same after whatever was asked of it."""
    return Tokenizer(shared(name))


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
@pytest.mark.parametrize("text", TEXTS)
def test_streamed_text_equals_the_full_decode(name: str, text: str) -> None:
    tokenizer = tokenizer_of(f"tokenizers/{name}")
    ids = tokenizer.encode(text, special=False)
    detok = Detokenizer(tokenizer)
    streamed = "".join(detok.feed([token]) for token in ids) + detok.end()[0]
    assert streamed.lstrip() == tokenizer.decode(ids).lstrip()


@pytest.mark.parametrize("seed", range(20))
def test_a_stop_string_is_found_for_every_way_the_tokens_fall(seed: int) -> None:
    dice = random.Random(seed)
    tokenizer = tokenizer_of("tokenizers/gpt-2")
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


def spelt(tokenizer: Tokenizer, pieces: list[str | bytes]) -> list[int]:
    """Words as the vocabulary has them, and bytes by their tokens."""
    of_byte = {tokenizer.bytes_of(token): token for token in range(3, 259)}
    return [
        token
        for piece in pieces
        for token in (
            tokenizer.encode(piece, special=False)
            if isinstance(piece, str)
            else [of_byte[bytes([byte])] for byte in piece]
        )
    ]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["😀".encode(), b"\xf0\x9f\x98", "ok"], "😀\ufffd ok"),
        (["中".encode(), b"\xe4\xb8", "ok"], "中\ufffd ok"),
        (["😀".encode(), b"\xf0\x9f"], "😀\ufffd"),
        (["ok", "中".encode(), b"\x80", "文".encode()], "ok中\ufffd文"),
    ],
)
def test_a_byte_that_is_no_characters_costs_one_mark(pieces: list[str | bytes], text: str) -> None:
    tokenizer = tokenizer_of("tokenizers/llama-spm")
    ids = spelt(tokenizer, pieces)
    detok = Detokenizer(tokenizer)
    assert "".join(detok.feed([token]) for token in ids) + detok.end()[0] == text
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["tokenizers/gpt-2", "tokenizers/llama-spm", "models/stories260K"])
@pytest.mark.parametrize("seed", range(4))
def test_any_ids_stream_as_they_decode(name: str, seed: int) -> None:
    dice, tokenizer = random.Random(seed), tokenizer_of(name)
    size = tokenizer.fast.get_vocab_size()
    single = [token for token in range(size) if len(tokenizer.bytes_of(token)) == 1]
    for _ in range(200):
        ids = [dice.choice(single) if dice.random() < 0.6 else dice.randrange(size) for _ in range(12)]
        ids = [token for token in ids if token not in tokenizer.specials]
        detok = Detokenizer(tokenizer)
        assert "".join(detok.feed([token]) for token in ids) + detok.end()[0] == tokenizer.decode(ids)


ONES: list[str | bytes] = ["中".encode(), "é😀".encode(), b" ", b"a", " word", "  ", "\n"]


def test_what_the_package_decodes_without_marks_is_streamed_as_it_is() -> None:
    dice, tokenizer = random.Random(7), tokenizer_of("tokenizers/llama-spm")
    for _ in range(500):
        pieces = [dice.choice(ONES) for _ in range(6)]
        ids = spelt(tokenizer, pieces)
        detok = Detokenizer(tokenizer)
        whole = tokenizer.fast.decode(ids, skip_special_tokens=False)
        assert "".join(detok.feed([token]) for token in ids) + detok.end()[0] == whole
