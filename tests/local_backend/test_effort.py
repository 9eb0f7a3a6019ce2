"""`reasoning_effort` reaches the model by whatever its chat template reads, or is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from local_backend.config import BUNDLED
from local_backend.effort import BUDGETS, EFFORTS, arguments_of
from local_backend.fields import Refused
from local_backend.preparation import Preparation
from local_backend.template import ChatTemplate
from local_backend.tokenizer import Tokenizer
from local_backend.trial import Trial
from local_backend.voice import Voice
from local_backend.wire import Request, read
from tests.shared import shared

PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
THINKS = PLAIN + "<think></think>"


def chat(**more: Any) -> Request:
    body = {"messages": [{"role": "user", "content": "hi"}], **more}
    return read(json.dumps(body).encode(), chat=True, default_tokens=9)


def preparation(template: str) -> Preparation:
    tokenizer = Tokenizer(BUNDLED)
    return Preparation(
        tokenizer, ChatTemplate(template, {}), Voice.of(template, tokenizer), Trial(Path(BUNDLED))
    )


def prompt(template: str, **more: Any) -> str:
    made = preparation(template)
    return made.tokenizer.decode(made.ids(chat(**more))[0])


@pytest.mark.parametrize(
    ("variables", "none", "high"),
    [
        ({"enable_thinking"}, {"enable_thinking": False}, {"enable_thinking": True}),
        ({"thinking", "tools"}, {"thinking": False}, {"thinking": True}),
        ({"thinking_budget"}, {"thinking_budget": 0}, {"thinking_budget": 16384}),
        ({"reasoning_effort"}, {"reasoning_effort": "none"}, {"reasoning_effort": "high"}),
        (
            {"reasoning_effort", "enable_thinking"},
            {"enable_thinking": False},
            {"enable_thinking": True, "reasoning_effort": "high"},
        ),
        ({"messages"}, {}, {}),
    ],
)
def test_a_template_is_told_in_its_own_words(variables: set[str], none: Any, high: Any) -> None:
    assert arguments_of("none", variables) == none
    assert arguments_of("high", variables) == high


def test_every_effort_has_a_budget() -> None:
    assert tuple(BUDGETS) == EFFORTS


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("Qwen-Qwen3-0.6B", {"enable_thinking"}),
        ("ibm-granite-granite-3.3-2B-Instruct", {"thinking"}),
        ("deepseek-ai-DeepSeek-V3.1", {"thinking"}),
        ("ByteDance-Seed-OSS", {"thinking_budget"}),
        ("openai-gpt-oss-120b", {"reasoning_effort"}),
        ("NVIDIA-Nemotron-Nano-v2", set()),  # has a variable of that name, but reads none of the call's
        ("Qwen-QwQ-32B", set()),
    ],
)
def test_what_a_real_template_reads_is_found(name: str, reads: set[str]) -> None:
    source = shared(f"templates/{name}.jinja").read_text()
    assert arguments_of("high", ChatTemplate(source, {}).variables).keys() == reads


def test_no_effort_closes_the_thoughts_of_qwen3() -> None:
    source = shared("templates/Qwen-Qwen3-0.6B.jinja").read_text()
    assert prompt(source, reasoning_effort="none").endswith("<think>\n\n</think>\n\n")
    assert prompt(source, reasoning_effort="low") == prompt(source)


def test_an_effort_is_part_of_the_prompt_where_the_template_shows_it() -> None:
    assert prompt(PLAIN + "{{ reasoning_effort }}", reasoning_effort="low").endswith("hilow")


def test_a_model_that_does_not_think_is_asked_for_nothing_by_none() -> None:
    assert prompt(PLAIN, reasoning_effort="none") == prompt(PLAIN)
    assert prompt(PLAIN, reasoning_effort=None) == prompt(PLAIN)


@pytest.mark.parametrize(
    ("template", "more", "told"),
    [
        (PLAIN, {"reasoning_effort": "high"}, "no way to say"),
        (THINKS, {"reasoning_effort": "none"}, "no way to say"),
        (PLAIN + "{{ thinking }}", {"reasoning_effort": "huge"}, "one of none, minimal, low"),
        (PLAIN + "{{ thinking }}", {"reasoning_effort": 5}, "a text"),
        (
            PLAIN + "{{ thinking }}",
            {"reasoning_effort": "low", "chat_template_kwargs": {"thinking": True}},
            "excludes 'chat_template_kwargs.thinking'",
        ),
    ],
)
def test_what_would_be_ignored_is_refused_by_name(template: str, more: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told) as error:
        prompt(template, **more)
    assert (error.value.param, error.value.status) == ("reasoning_effort", 400)
