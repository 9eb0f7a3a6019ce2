"""Chat templates: rendered as transformers renders them, locked in, and stopped when they have no end."""

import contextlib
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local_backend import sandbox
from local_backend.config import UnusableModel
from local_backend.template import BadConversation, ChatTemplate, load
from tests.shared import SHARED, shared

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
NAMES = sorted(path.stem for path in (SHARED / "templates").glob("*.jinja")) or ["absent"]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Wetter für eine "Stadt" <heute>',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "which"},
                    "days": {"type": "integer"},
                },
                "required": ["city"],
            },
        },
    }
]
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Köln", "days": 2}'},
}
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "turns": {
        "messages": [
            {"role": "user", "content": "  ping <b> 'x' "},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\npong\n"},
            {"role": "user", "content": "again 👋\n"},
        ]
    },
    "system": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
    "tools": {
        "messages": [
            {"role": "system", "content": "Help."},
            {"role": "user", "content": "Wie ist das Wetter?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": '{"sky": "blue"}', "tool_call_id": "abcdefghi", "name": "weather"},
            {"role": "assistant", "content": "Blue."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": TOOLS,
    },
    "thought": {
        "messages": [
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": "2", "reasoning_content": "one and one"},
            {"role": "user", "content": "sure?"},
        ],
        "enable_thinking": False,
    },
}


def clock() -> datetime:
    return datetime(2026, 11, 24, 12, 0, 0)


class Noon(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> "Noon":
        return cls(2026, 11, 24, 12, 0, 0)


@cache
def published(name: str) -> ChatTemplate:
    """Compiled once for all conversations, as a server has it."""
    return ChatTemplate(shared(f"templates/{name}.jinja").read_text(), SPECIALS, Noon.now)


@pytest.mark.parametrize("case", CONVERSATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_published_templates_render_as_transformers_renders_them(
    name: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = pytest.importorskip(
        "transformers.utils.chat_template_utils", reason="transformers is not installed: make .make/dev"
    )
    monkeypatch.setattr(theirs, "datetime", Noon)
    source = shared(f"templates/{name}.jinja").read_text()
    conversation = CONVERSATIONS[case]
    for opens in (True, False):
        expected = _theirs(theirs, source, conversation, opens)
        try:
            found = published(name).render(**conversation, add_generation_prompt=opens)
        except BadConversation:
            found = None
        assert found == expected


def _theirs(theirs: Any, source: str, conversation: dict[str, Any], opens: bool) -> str | None:
    """With a call's arguments as an object, then as text: what one template wants the other cannot take."""
    more = {name: value for name, value in conversation.items() if name not in ("messages", "tools")}
    as_object = json.loads(json.dumps(conversation["messages"]))
    for message in as_object:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    for messages in (as_object, conversation["messages"]):
        try:
            rendered, _ = theirs.render_jinja_template(
                [theirs._normalize_chat_messages(messages)],
                tools=conversation.get("tools"),
                chat_template=source,
                add_generation_prompt=opens,
                **SPECIALS,
                **more,
            )
            return str(rendered[0])
        except TypeError:
            continue
        except Exception:
            return None
    return None


def test_most_published_templates_take_a_conversation_with_tools() -> None:
    """So that the comparison above is not of refusals with refusals."""
    taken = 0
    for name in NAMES:
        try:
            taken += "Wetter" in published(name).render(**CONVERSATIONS["tools"], add_generation_prompt=True)
        except BadConversation:
            continue
    assert taken >= 22


def rendered(source: str, messages: list[dict[str, Any]] | None = None, **more: Any) -> str:
    return ChatTemplate(source, {}).render(messages or [], add_generation_prompt=False, **more)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ [].append.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ namespace(_x=1) }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{{ dict.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ raise_exception.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{% include 'x' %}",
    ],
)
def test_a_template_cannot_reach_out(source: str) -> None:
    with contextlib.suppress(BadConversation):
        assert rendered(source) == ""  # an attribute that is hidden is undefined, and that is empty


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
        "{{ 'x' * 100000000 }}",
        "{{ 100000000 * 'x' }}",
        "{{ [1] * 100000000 }}",
        "{% set n = namespace(t='x') %}{% for a in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{% set n = namespace(t='x') %}{% for a in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{{ 9 ** 99999999 }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 1 / 0 }}",
        "{{ messages[5].x.y }}",
    ],
)
def test_a_template_without_end_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 0.2)
    with pytest.raises(BadConversation):
        rendered(source)


def test_loops_know_where_they_are() -> None:
    source = (
        "{% for x in 'abc' %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ loop.nextitem }} {% endfor %}"
    )
    assert rendered(source) == "1False3b 2False3c 3True3 "
    assert (
        rendered("{% for x in [1, 2, 3, 4] if x % 2 %}{{ x }}{% if loop.last %}.{% endif %}{% endfor %}")
        == "13."
    )
    assert rendered("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}") == "a1"
    assert rendered("{% for x in [] %}{% else %}none{% endfor %}") == "none"
    assert (
        rendered("{% for x in [[1, [2]]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}") == "12"
    )


def test_what_a_message_holds_is_never_a_template() -> None:
    messages = [{"role": "user", "content": "{{ 7*7 }}"}]
    assert rendered("{{ messages[0].content }}", messages) == "{{ 7*7 }}"


def test_a_message_is_continued_where_it_ends() -> None:
    source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    messages = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "one, two "}]
    assert rendered(source, messages, continue_final_message=True) == "<user>count</s><assistant>one, two "


def test_a_template_that_hides_the_final_message_cannot_continue_it() -> None:
    with pytest.raises(BadConversation):
        rendered("{{ messages[0].role }}", [{"role": "a", "content": "x"}], continue_final_message=True)


def test_mistral_is_given_short_ids_that_still_match() -> None:
    source = shared("templates/mistralai-Mistral-Nemo-Instruct-2407.jinja").read_text()
    long = {**CALL, "id": "call_0123456789abcdef"}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "tool_calls": [long]},
        {"role": "tool", "content": "blue", "tool_call_id": "call_0123456789abcdef"},
    ]
    text = ChatTemplate(source, SPECIALS).render(messages, add_generation_prompt=True)
    ids = [one.split('"')[0] for one in text.replace('"call_id": "', '"id": "').split('"id": "')[1:]]
    assert (len(set(ids)), len(ids[0])) == (1, 9)


def write(folder: Path, settings: dict[str, Any], **files: str) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, source in files.items():
        (folder / f"{name}.jinja").write_text(source)


def test_a_template_of_its_own_file_goes_before_the_settings(tmp_path: Path) -> None:
    write(tmp_path, {"chat_template": "old"}, chat_template="new {{ eos_token }}")
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}}')
    found = load(tmp_path)
    assert found is not None
    assert found.render([], add_generation_prompt=False) == "new </s>"


def test_a_template_for_tools_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    write(tmp_path, {"chat_template": named})
    found = load(tmp_path)
    assert found is not None
    assert found.render([], add_generation_prompt=False) == "plain"
    assert found.render([], tools=TOOLS, add_generation_prompt=False) == "tools"


def test_a_model_without_a_template_is_not_for_chat(tmp_path: Path) -> None:
    assert load(tmp_path) is None


def test_a_template_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(UnusableModel, match=r"chat_template\.jinja"):
        load(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        "{",
        "[]",
        '{"a":' + "[" * 10**5,
        '{"chat_template": "{% for %}"}',
        '{"chat_template": 5}',
        '{"chat_template": [{"template": "x"}]}',
        '{"chat_template": [{"name": "default", "template": 5}]}',
    ],
)
def test_a_broken_template_is_told(tmp_path: Path, settings: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(UnusableModel):
        load(tmp_path)
