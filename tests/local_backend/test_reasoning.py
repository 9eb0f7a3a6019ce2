"""Thoughts told apart from the answer, in whatever pieces the text comes."""

from pathlib import Path

import pytest

from local_backend.reasoning import KNOWN, Reasoning, marks_of
from local_backend.voice import Voice
from tests.shared import shared

THINK = KNOWN[0]
GOLDEN = [
    # (begun by the prompt, text, thoughts, answer)
    (False, "<think>\nhm, 2\n\n</think>\n\n4 it is \n", "hm, 2", "4 it is \n"),
    (True, "hm\n</think>\n\nfour", "hm", "four"),
    (True, "<b> </th ink> still\n", "<b> </th ink> still", ""),
    (False, "no thoughts at all", "", "no thoughts at all"),
    (False, "  <thin ice>", "", "  <thin ice>"),
    (False, "answer <think>late</think>", "", "answer <think>late</think>"),
    (False, "<think>\n\n</think>\n\nnone", "", "none"),
    (False, "<think>a</think>b</think>c", "a", "b</think>c"),
    (False, "<think>cut off in </thi", "cut off in </thi", ""),
    (False, "<thi", "", "<thi"),
    (True, "\n</think>", "", ""),
]


def told(pieces: list[str], inside: bool) -> tuple[str, str]:
    reasoning = Reasoning(THINK, inside=inside)
    parts = [reasoning.feed(piece) for piece in pieces]
    parts.append(reasoning.feed("", last=True))
    return "".join(one for one, _ in parts), "".join(one for _, one in parts)


@pytest.mark.parametrize(("inside", "text", "thoughts", "answer"), GOLDEN)
def test_every_split_tells_the_same(inside: bool, text: str, thoughts: str, answer: str) -> None:
    assert told(list(text), inside) == (thoughts, answer)
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert told([text[:first], text[first:second], text[second:]], inside) == (thoughts, answer)


def test_thoughts_go_out_before_they_end() -> None:
    reasoning = Reasoning(THINK, inside=True)
    assert reasoning.feed("one two ") == ("one two", "")
    assert reasoning.feed("three</thi") == (" three", "")
    assert reasoning.feed("nk>x") == ("", "x")


@pytest.mark.parametrize(("inside", "text", "thoughts", "answer"), GOLDEN)
def test_the_length_of_thoughts_holds_their_marks(
    inside: bool, text: str, thoughts: str, answer: str
) -> None:
    reasoning = Reasoning(THINK, inside=inside)
    reasoning.feed(text, last=True)
    rest = text[reasoning.length :]
    assert rest.strip() == answer.strip()


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("Qwen-Qwen3-0.6B", "<think>"),
        ("Qwen-QwQ-32B", "<think>"),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "<think>"),
        ("ByteDance-Seed-OSS", "<seed:think>"),
        ("Qwen-Qwen2.5-7B-Instruct", None),
        ("meta-llama-Llama-3.1-8B-Instruct", None),
    ],
)
def test_a_template_tells_how_its_model_thinks(name: str, marks: str | None) -> None:
    found = marks_of(_template(name))
    assert (found.opens if found else None) == marks


def test_so_does_a_vocabulary() -> None:
    assert marks_of("", ["<|end|>", "[THINK]", "[/THINK]"]) == KNOWN[1]
    assert marks_of("", ["<|end|>"]) is None


@pytest.mark.parametrize(
    ("prompt", "said", "stance"),
    [
        ("<|assistant|>", "", "before"),
        ("<|assistant|><think>\n", "", "inside"),
        ("<|assistant|><think>\n\n</think>\n\n", "", "after"),
        ("what does <think> mean?<|assistant|>", "", "before"),
        ("<|assistant|><think>hm", "<think>hm", "inside"),
        ("<|assistant|>Paris is", "Paris is", "after"),
        ("<|assistant|><think>hm</think>Paris", "<think>hm</think>Paris", "after"),
    ],
)
def test_a_prompt_tells_where_the_model_stands(prompt: str, said: str, stance: str) -> None:
    assert Voice(marks=THINK).stance(prompt, said) == stance
    assert Voice().stance(prompt, said) == "after"


def _template(name: str) -> str:
    path: Path = shared(f"templates/{name}.jinja")
    return path.read_text()
