"""JSON that orjson takes for none and Python's clients read."""

import json

import orjson
import pytest

from gateway.core.usage import Usage
from gateway.wire.base import Asked
from gateway.wire.registry import DIALECTS, between
from gateway.wire.written import read
from tests.scripted import DONE, FINISH

HALF = b'{"id":"c","choices":[{"index":0,"message":{"content":"a\\ud83d"},"finish_reason":"stop"}],' \
       b'"usage":{"prompt_tokens":7,"completion_tokens":3}}'  # fmt: skip


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        (rb'"\ud83d"', "\ufffd"), (rb'"\uDE00x"', "\ufffdx"), (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"), (rb'"\\ud83d \ud83d"', "\\ud83d \ufffd"),
        (rb'"\"\ud83d\"NaN"', '"\ufffd"NaN'), (b"[NaN, -Infinity, Infinity]", [None, None, None]),
        (rb'{"NaN": NaN, "a\"": "Infinity"}', {"NaN": None, 'a"': "Infinity"}), (b'{"a": 1}', {"a": 1}),
    ],
)  # fmt: skip
def test_what_pythons_json_takes_is_read(said: bytes, read_as: object) -> None:
    json.loads(said)
    assert read(said) == read_as


@pytest.mark.parametrize(
    "said", [b"", b"<html>NaN</html>", rb'"\ud8zz"', rb'{"a": "\ud83d"', b'{"a": NaN', b"[-NaN]"]
)
def test_what_is_no_json_to_anybody_is_refused(said: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        read(said)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai.chat", HALF),
        ("openai.chat", HALF.replace(b'"id":"c"', b'"id":"c","odds":[-Infinity]')),
        (
            "anthropic.messages",
            rb'{"type":"message","content":[{"type":"text","text":"\ud83d"}],"stop_reason":"end_turn",'
            b'"usage":{"input_tokens":7,"output_tokens":3}}',
        ),
        (
            "gemini.generate",
            rb'{"candidates":[{"content":{"parts":[{"text":"\ud83d"}]},"finishReason":"STOP"}],'
            b'"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3}}',
        ),
    ],
)  # fmt: skip
def test_an_answer_with_half_a_character_passes_as_it_is_and_is_counted(dialect: str, body: bytes) -> None:
    usage = Usage()
    tap = DIALECTS[dialect].tap(Asked({}, usage))
    assert not tap.whole(body)
    assert (tap.failed, usage.prompt, usage.completion, tap.finish_reason.lower()) == (False, 7, 3, "stop")


def test_half_a_character_breaks_no_crossing() -> None:
    way = between("anthropic.messages", "openai.chat")
    told = way.tap(Asked({}, Usage())).whole(HALF)
    assert told
    assert orjson.loads(told)["content"] == [{"type": "text", "text": "a\ufffd"}]
    tap = way.tap(Asked({}, Usage()))
    halves = [
        rb'data: {"choices":[{"index":0,"delta":{"content":"\u%b"}}]}' % one + b"\n\n"
        for one in (b"d83d", b"de00")
    ]
    stream = b"".join(map(tap.feed, [*halves, FINISH, DONE]))
    assert (stream.count("\ufffd".encode()), tap.finished, tap.failed) == (2, True, False)
