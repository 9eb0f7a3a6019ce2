"""JSON that orjson takes for none and Python's clients read; numbers that it rounds and tools are called with."""

import json
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.registry import DIALECTS, FRONTS, between
from gateway.wire.written import as_written, exactly, read, read_exactly
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
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
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


WEI = b"123456789012345678901234"


@pytest.mark.parametrize(
    "number",
    [b"0", b"1234567890123456789", b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551615",
     b"18446744073709551616", WEI, b"-" + WEI, b"9" * 300],
)  # fmt: skip
def test_a_whole_number_is_written_as_it_was_read(number: bytes) -> None:
    said = b'{"a":[%b,"%b","\\ud83d"],"b":NaN}' % (number, number)
    kept = b'{"a":[%b,"%b","\xef\xbf\xbd"],"b":null}' % (number, number)
    assert orjson.dumps(read_exactly(said)) == kept


def test_what_is_nested_too_deeply_to_be_written_is_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_exactly(b"[" * 1000 + WEI + b"]" * 1000)

    def too_deep(*_: Any, **__: Any) -> None:  # as of that depth some of Python's versions say
        raise RecursionError

    monkeypatch.setattr(json, "loads", too_deep)
    assert read_exactly(b"[[%b]]" % WEI) == [[float(WEI)]]


def test_a_payload_has_the_numbers_of_its_body_where_it_has_its_values() -> None:
    body = b'{"a":{"b":%b},"c":%b,"gone":1}' % (WEI, WEI)
    read_of_it: dict[str, Any] = orjson.loads(body)
    changed = {"a": read_of_it["a"], "c": 5, "new": None}
    assert orjson.dumps(exactly(changed, body)) == b'{"a":{"b":%b},"c":5,"new":null}' % WEI
    short = {"a": 1}
    assert exactly(short, b'{"a":1}') is short


def test_a_text_keeps_its_words_where_it_holds_a_long_number() -> None:
    text = '{"wei": 123456789012345678901234, "x": 0.1234567890123456789}'
    assert orjson.dumps(as_written(text, orjson.loads(text))) == text.encode()
    assert as_written('{"a": 1.50}', {"a": 1.5}) == {"a": 1.5}


CALLED = b'{"wei":%b}' % WEI
USER = {"role": "user", "content": "hi"}
BY_CHAT = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "t", "type": "function", "function": {"name": "f", "arguments": CALLED.decode()}}]}  # fmt: skip


def asked(dialect: str, payload: bytes) -> Call:
    return Call("x", dialect, "POST", "/x", payload, orjson.loads(payload), "m", False)


@pytest.mark.parametrize("back", ["anthropic.messages", "gemini.generate", "bedrock.converse"])
def test_what_a_tool_was_called_with_reaches_every_provider_exactly(back: str) -> None:
    result = {"role": "tool", "tool_call_id": "t", "content": CALLED.decode()}
    chat = orjson.dumps({"model": "m", "max_tokens": 9, "messages": [USER, BY_CHAT, result]})
    written = between("openai.chat", back).write(asked("openai.chat", chat), Changes("m"))
    assert written.count(CALLED) == (2 if back == "gemini.generate" else 1)


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("anthropic.messages", b'{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":%b}]}'),
        ("gemini.generate", b'{"role":"model","parts":[{"functionCall":{"id":"t","name":"f","args":%b}}]}'),
    ],
)  # fmt: skip
def test_what_a_client_says_a_tool_was_called_with_is_exact(dialect: str, said: bytes) -> None:
    listed = b"messages" if dialect == "anthropic.messages" else b"contents"
    body = b'{"model":"m","max_tokens":9,"%b":[%b]}' % (listed, said % CALLED)
    written = between(dialect, "openai.chat").write(asked(dialect, body), Changes("m"))
    [call] = orjson.loads(written)["messages"][-1]["tool_calls"]
    assert call["function"]["arguments"] == CALLED.decode()


ANSWERS = {
    "openai.chat": orjson.dumps(
        {"choices": [{"index": 0, "message": BY_CHAT, "finish_reason": "tool_calls"}]}
    ),
    "anthropic.messages": b'{"content":[{"type":"tool_use","id":"t","name":"f","input":%b}]}' % CALLED,
    "gemini.generate": b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%b}}]}}]}'
    % CALLED,
    "bedrock.converse": b'{"output":{"message":{"content":[{"toolUse":{"toolUseId":"t","name":"f","input":%b}}]}}}'
    % CALLED,
}


@pytest.mark.parametrize(
    ("front", "back"), [(front, back) for front in FRONTS for back in ANSWERS if front != back]
)
def test_what_a_model_calls_a_tool_with_reaches_every_client_exactly(front: str, back: str) -> None:
    told = between(front, back).tap(Asked({"model": "m"}, Usage())).whole(ANSWERS[back])
    assert told
    assert CALLED in told.replace(b'\\"', b'"')


def test_arguments_that_come_whole_in_a_stream_are_exact() -> None:
    tap = between("openai.chat", "gemini.generate").tap(Asked({"model": "m"}, Usage()))
    assert CALLED in tap.feed(b"data: " + ANSWERS["gemini.generate"] + b"\n\n").replace(b'\\"', b'"')
