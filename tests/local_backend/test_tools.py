"""Tool calls read out of what families of models write, in whatever pieces the text comes; nothing is lost."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_backend.formats import FORMATS, Format, format_of
from local_backend.part import CallPart, joined
from local_backend.tools import Parser, Tools
from tests.shared import shared

SCHEMAS: dict[str, Any] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}},
    },
    "now": {"type": "object", "properties": {}},
}
TOOLS = Tools([], SCHEMAS)
KOELN = '{"city": "Köln", "days": 2}'
# Of each: format, text, content, and name and arguments of the calls.
GOLDEN: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    # one call, as the model was taught
    ("hermes", f'<tool_call>\n{{"name": "weather", "arguments": {KOELN}}}\n</tool_call>', "", [("weather", KOELN)]),
    ("llama3", f'{{"name": "weather", "parameters": {KOELN}}}', "", [("weather", KOELN)]),
    ("llama3", f'<|python_tag|>{{"name": "weather", "parameters": {KOELN}}}', "", [("weather", KOELN)]),
    ("mistral", f'[TOOL_CALLS] [{{"name": "weather", "arguments": {KOELN}}}]', "", [("weather", KOELN)]),
    ("mistral-named", f"[TOOL_CALLS]weather[ARGS]{KOELN}", "", [("weather", KOELN)]),
    ("mistral-named", f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{KOELN}", "", [("weather", KOELN)]),
    (
        "qwen3-coder",
        "<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        "",
        [("weather", KOELN)],
    ),
    # several, and words beside them
    (
        "hermes",
        f'I look.\n\n<tool_call>\n{{"name": "weather", "arguments": {KOELN}}}\n</tool_call>\n<tool_call>\n'
        '{"name": "now", "arguments": {}}\n</tool_call>\n done \n',
        "I look.\n done",
        [("weather", KOELN), ("now", "{}")],
    ),
    (
        "llama3",
        f'{{"name": "weather", "parameters": {KOELN}}}; {{"name": "now", "parameters": {{}}}}',
        "",
        [("weather", KOELN), ("now", "{}")],
    ),
    (
        "mistral",
        f'[TOOL_CALLS][{{"name": "weather", "arguments": {KOELN}, "id": "abcdefghi"}}, {{"arguments": {{"a": [1]}}, '
        '"name": "now"}]',
        "",
        [("weather", KOELN), ("now", '{"a": [1]}')],
    ),
    (
        "mistral-named",
        f"well[TOOL_CALLS]weather[ARGS]{KOELN}[TOOL_CALLS]now[ARGS]{{}}",
        "well",
        [("weather", KOELN), ("now", "{}")],
    ),
    (
        "qwen3-coder",
        "<function=now></function>\n<function=weather><parameter=tags>[1, null]</parameter><parameter=city>\n7\n"
        "</parameter></function>",
        "",
        [("now", "{}"), ("weather", '{"tags": [1, null], "city": "7"}')],
    ),
    # braces, quotes and marks within arguments
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "a\\"}</tool_call>{", "x": [{}]}}</tool_call>',
        "",
        [("weather", '{"city": "a\\"}</tool_call>{", "x": [{}]}')],
    ),
    # arguments as a text that holds them
    ("hermes", '<tool_call>{"name": "now", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("now", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "now", "arguments": null}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"arguments": null, "name": "now"}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "now", "arguments": ""}</tool_call>', "", [("now", "{}")]),
    ("llama3", '{"name": "now", "parameters": null}', "", [("now", "{}")]),
    # arguments that are none: nothing is lost
    ("hermes", '<tool_call>{"name": "now", "arguments": []}</tool_call>', "", []),
    ("hermes", '<tool_call>{"name": "now", "arguments": nil}</tool_call>', "", []),
    ("hermes", '<tool_call>{"name": "now", "arguments": "now"}</tool_call>', "", []),
    ("hermes", '<tool_call>{"name": "now", "arguments": "{\\"a\\": \\"\\\\ud83d\\"}"}</tool_call>', "", []),
    ("hermes", '<tool_call>{"name": "now\\ud83d", "arguments": {}}</tool_call>', "", []),
    ("llama3", '{"name": "now", "parameters": [1]}', "", []),
    # values that JSON has no way to say are texts
    *[
        (
            "qwen3-coder",
            f"<function=weather><parameter=days>{value}</parameter></function>",
            "",
            [("weather", json.dumps({"days": value}))],
        )
        for value in ("NaN", "1e999", "-Infinity", '"\\ud83d"', "[" * 5000)
    ],
    # what only looks like a call is content
    ("hermes", "a <tool_call> b", "a <tool_call> b", []),
    ("hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', "", []),
    ("hermes", "<tool_c", "<tool_c", []),
    ("hermes", "1 < 2 <tool_callx>", "1 < 2 <tool_callx>", []),
    ("llama3", '{"city": "Köln"}', '{"city": "Köln"}', []),
    ("llama3", 'Here: {"name": "now", "parameters": {}}', 'Here: {"name": "now", "parameters": {}}', []),
    ("mistral", "[TOOL_CALLS] [1]", "[TOOL_CALLS] [1]", []),
    ("qwen3-coder", "<function=unknown></function>", "<function=unknown></function>", []),
    ("hermes", "  plain, with space \n", "  plain, with space \n", []),
    # a call after what only looked like one
    (
        "hermes",
        '<tool_call><tool_call>{"name": "now", "arguments": {}}</tool_call>',
        "<tool_call>",
        [("now", "{}")],
    ),
    # the end is missing: what was told stays told, and its braces are nobody's words
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "Kö', "", [("weather", '{"city": "Kö')]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}} but', " but", [("now", "{}")]),
]  # fmt: skip
GOLDEN = [
    (name, text, text if not content and not calls else content, calls)
    for name, text, content, calls in GOLDEN
]


def told(name: str, pieces: list[str], tools: Tools = TOOLS) -> tuple[str, list[tuple[str, str]]]:
    parser = Parser(FORMATS[name], tools)
    parts = [parser.feed(piece) for piece in pieces]
    parts.append(parser.feed("", last=True))
    calls = joined([call for _, some in parts for call in some])
    return "".join(content for content, _ in parts), [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(("name", "text", "content", "calls"), GOLDEN)
def test_every_split_gives_the_same_calls(
    name: str, text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    assert told(name, [text]) == (content, calls)
    assert told(name, list(text)) == (content, calls)
    for cut in range(1, min(len(text), 300)):
        assert told(name, [text[:cut], text[cut:]]) == (content, calls)


@given(st.data())
def test_any_pieces_give_the_same_calls(data: st.DataObject) -> None:
    name, text, content, calls = data.draw(st.sampled_from(GOLDEN))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert told(name, pieces) == (content, calls)


_ODD = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=now>", '{"name": "now"', ", ",
        '"arguments": ', "{", "}", "[", "]", ";", " ", '"', "\\", "x", "</function>", "[ARGS]", "now"]  # fmt: skip


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.sampled_from(_ODD), max_size=14))
def test_no_text_breaks_a_parser_and_without_calls_none_is_lost(name: str, words: list[str]) -> None:
    text = "".join(words)
    content, calls = told(name, [text])
    assert told(name, words) == (content, calls)
    if not calls:
        assert content == text


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_arguments_stream_as_they_come(name: str) -> None:
    text = next(text for other, text, _, calls in GOLDEN if other == name and calls)
    parser = Parser(FORMATS[name], TOOLS)
    parts: list[list[CallPart]] = [parser.feed(character)[1] for character in text]
    told = [part for some in parts for part in some]
    assert told[0].name == "weather"
    assert len(told) > 3
    assert json.loads("".join(part.arguments for part in told)) == json.loads(KOELN)


@pytest.mark.parametrize(
    ("name", "piece", "end"),
    [
        ("hermes", '<tool_call>{"arguments":{', ""),
        ("hermes", '<tool_call>{"arguments":{', "}"),
        ("mistral", '[TOOL_CALLS][{"arguments":{', "}"),
        ("hermes", '<tool_call>{"id":"', '"}'),
    ],
)
def test_marks_within_marks_are_read_again_so_far_and_no_further(name: str, piece: str, end: str) -> None:
    text = piece * 4000 + end * 4000
    began = time.process_time()
    content, calls = told(name, [text])
    assert (content, calls) == (text, [])
    assert time.process_time() - began < 10, "each mark read all that follows it anew"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_one_wanted_call_is_enough(name: str) -> None:
    several = [text for other, text, _, calls in GOLDEN if other == name and len(calls) == 2]
    for text in several:
        parser = Parser(FORMATS[name], Tools([], SCHEMAS, most=1))
        assert len(parser.feed(text)[1]) == 1
        assert parser.full


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen-Qwen3-0.6B", "hermes"),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes"),
        ("meta-llama-Llama-3.1-8B-Instruct", "llama3"),
        ("meta-llama-Llama-3.2-3B-Instruct", "llama3"),
        ("mistralai-Mistral-Nemo-Instruct-2407", "mistral"),
        ("Mistral-Small-3.2-24B-Instruct-2506", "mistral-named"),
        ("unsloth-mistral-Devstral-Small-2507", "mistral-named"),
        ("google-gemma-2-2b-it", None),
        ("moonshotai-Kimi-K2", None),
        ("deepseek-ai-DeepSeek-V3.1", None),
        ("meetkai-functionary-medium-v3.1", None),
        ("CohereForAI-c4ai-command-r-plus-tool_use", None),
        ("ByteDance-Seed-OSS", None),
    ],
)
def test_a_template_tells_how_its_model_calls(template: str, name: str | None) -> None:
    found: Format | None = format_of(shared(f"templates/{template}.jinja").read_text())
    assert found is (FORMATS[name] if name else None)


def test_qwens_coders_are_told_from_other_qwens() -> None:
    assert format_of("…<tool_call>\n<function=example>\n<parameter=a>…") is FORMATS["qwen3-coder"]
