"""The few fields of a call that the house reads: checked by hand, the rest left to the provider."""

from typing import Any

import orjson
import pytest

from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.fields import MOST_MARKS, bound, note_usage, read_object
from gateway.wire.registry import DIALECTS


def test_model_and_stream_are_read() -> None:
    assert read_object(b'{"model": "m", "stream": true}') == ({"model": "m", "stream": True}, "m", True)
    assert read_object(b'{"model": "m", "stream": null}').stream is False
    assert read_object(b'{"model": "m"}').stream is False


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "invalid_json", "the body is not valid JSON"),
        (b'{"model":\n nope}', "invalid_json", "(line 2, column 2)"),
        (b"[" * 100_000, "invalid_json", "not valid JSON"),
        (b"\xff", "invalid_json", "not valid JSON"),
        (b'["model"]', "invalid_json", "must be a JSON object"),
        (b'{"model": "a", "model": "b"}', "duplicate_field", "'model' stands twice"),
        (b"{}", "missing_required_parameter", "'model' must name a model"),
        (b'{"model": ""}', "missing_required_parameter", "'model' must name a model"),
        (b'{"model": 7}', "missing_required_parameter", "'model' must name a model"),
        (b'{"model": "%b"}' % (b"m" * 257), "invalid_value", "longer than 256"),
        (b'{"model": "m", "stream": "yes"}', "invalid_type", "true or false"),
        (b'{"model": "m", "stream": 1}', "invalid_type", "true or false"),
    ],
)
def test_what_is_no_call_is_told_so(body: bytes, code: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_object(body)
    assert caught.value.code == code
    assert says in caught.value.message


def test_a_body_may_be_as_long_as_its_words_are_and_hold_so_many_values() -> None:
    names = b'{"model": "m", "text": "%b", "x": [%b]}'
    most = names % (b"[{:," * MOST_MARKS, b"1," * (MOST_MARKS - 7) + b"1")
    assert read_object(most).model == "m"
    with pytest.raises(BadRequest) as caught:
        read_object(names % (b"", b"1," * (MOST_MARKS - 6) + b"1"))
    assert caught.value.code == "too_many_values"


@pytest.mark.parametrize(("name", "read"), [("n_predict", "max_tokens"), ("n_cmpl", "n")])
def test_a_bound_that_is_read_by_no_one_here_is_refused_with_the_one_that_is(name: str, read: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_object(b'{"model": "m", "max_tokens": 9, "n": 1, "%b": 1000000}' % name.encode())
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)
    assert f"'{read}'" in caught.value.message


@pytest.mark.parametrize(
    ("payload", "value"), [({}, None), ({"n": None}, None), ({"n": 1}, 1), ({"n": 9}, 9)]
)
def test_a_bound_is_a_positive_whole_number_or_absent(payload: dict[str, Any], value: int | None) -> None:
    assert bound(payload, "n", most=9) == value


@pytest.mark.parametrize("value", [0, -1, 10, 1.0, "1", True, [1]])
def test_any_other_bound_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        bound({"n": value}, "n", most=9)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "n")
    assert "from 1 to 9" in caught.value.message


CALL = b'"model": "m", "messages": [], "prompt": ["a", "b"], "input": "hi", "contents": []'


@pytest.mark.parametrize(
    ("dialect", "twice", "name"),
    [
        ("openai.chat", b'"max_tokens": 9000, "max_tokens": 1', "max_tokens"),
        ("openai.chat", b'"max_completion_tokens": 9, "max\\u005fcompletion_tokens": 1', "max_completion_tokens"),
        ("openai.chat", b'"n": 9, "n": 1', "n"),
        ("openai.completions", b'"max_tokens": 9, "max_tokens": 1', "max_tokens"),
        ("openai.completions", b'"best_of": 9, "best_of": 1', "best_of"),
        ("openai.responses", b'"max_output_tokens": 9, "max_output_tokens": 1', "max_output_tokens"),
        ("openai.raw", b'"max_output_tokens": 9, "max_output_tokens": 1', "max_output_tokens"),
        ("anthropic.messages", b'"max_tokens": 9, "max_tokens": 1', "max_tokens"),
        ("gemini.generate", b'"generationConfig": {}, "generationConfig": {}', "generationConfig"),
        (
            "gemini.array",
            b'"generation_config": {"maxOutputTokens": 9, "maxOutputTokens": 1}',
            "maxOutputTokens",
        ),
        ("gemini.generate", b'"generationConfig": {"candidateCount": 9, "candidateCoun\\u0074": 1}', "candidateCount"),
    ],
)  # fmt: skip
def test_a_bound_of_the_output_stands_once(dialect: str, twice: bytes, name: str) -> None:
    """One parser keeps the first of two, another the last: what is reserved would not be what is written."""
    with pytest.raises(BadRequest, match=f"'{name}' stands twice in the body"):
        DIALECTS[dialect].read(b"{%b, %b}" % (CALL, twice))


@pytest.mark.parametrize(
    ("dialect", "other", "name", "meant"),
    [
        ("openai.chat", b'"MODEL": "stay"', "MODEL", "model"),
        ("openai.chat", b'"mod\\u0045l": "stay"', "modEl", "model"),
        ("openai.chat", b'"Max_Tokens": 1000000000', "Max_Tokens", "max_tokens"),
        ("openai.chat", '"max_to\u212aens": 1'.encode(), "max_to\u212aens", "max_tokens"),
        ("openai.chat", b'"me\\u017fsages": []', "me\u017fsages", "messages"),
        ("openai.chat", b'"N": 100', "N", "n"),
        ("openai.completions", b'"Best_Of": 9', "Best_Of", "best_of"),
        ("openai.embeddings", b'"Input": "more"', "Input", "input"),
        ("openai.responses", b'"Max_output_tokens": 9', "Max_output_tokens", "max_output_tokens"),
        ("openai.raw", b'"Stream": true', "Stream", "stream"),
        ("anthropic.messages", b'"Max_Tokens": 9', "Max_Tokens", "max_tokens"),
        ("cohere.rerank", b'"Documents": []', "Documents", "documents"),
        ("gemini.generate", b'"GenerationConfig": {}', "GenerationConfig", "generationConfig"),
        ("gemini.generate", b'"generationconfig": {}', "generationconfig", "generationConfig"),
        ("gemini.array", b'"generationConfig": {"MaxOutputTokens": 9}', "MaxOutputTokens", "maxOutputTokens"),
        ("gemini.generate", b'"generation_config": {"Max_output_tokens": 9}', "Max_output_tokens", "max_output_tokens"),
        ("gemini.generate", b'"N": 100', "N", "n"),
        ("gemini.count_tokens", b'"Contents": []', "Contents", "contents"),
        ("gemini.embed", b'"content": {}, "Model": "models/stay"', "Model", "model"),
    ],
)  # fmt: skip
def test_what_is_read_is_written_in_its_own_letters(
    dialect: str, other: bytes, name: str, meant: str
) -> None:
    """Servers in Go match names whatever their case, and the last one counts."""
    call = CALL + b', "query": "hi", "documents": []'
    with pytest.raises(BadRequest) as refused:
        DIALECTS[dialect].read(b"{%b, %b}" % (call, other))
    assert (refused.value.message, refused.value.code) == (
        f"'{name}' must be written '{meant}'",
        "invalid_field",
    )
    assert refused.value.param == name


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "anthropic.messages", "openai.raw"])
def test_where_a_call_goes_is_not_its_own_to_say(dialect: str) -> None:
    with pytest.raises(BadRequest, match="'api_base' is for the gateway's operator to set") as refused:
        DIALECTS[dialect].read(b'{%b, "base_url": "http://x", "api_base": "http://x"}' % CALL)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "api_base")


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai.chat", b'"X-Mine": 1, "Seed": 7, "gr\xc3\xb6\xc3\x9fe": 1'),
        (
            "gemini.generate",
            b'"systemInstruction": {}, "generationConfig": {"maxOutputTokens": 9, "topP": 1}',
        ),
        ("gemini.generate", b'"system_instruction": {}, "generation_config": {"max_output_tokens": 9}'),
    ],
)
def test_names_that_nobody_reads_and_both_spellings_of_googles_pass(dialect: str, body: bytes) -> None:
    DIALECTS[dialect].read(b"{%b, %b}" % (CALL, body))


@pytest.mark.parametrize(
    "names", [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")]
)
def test_of_two_bounds_of_one_call_the_larger_counts(names: tuple[str, str]) -> None:
    dialect = DIALECTS["openai.chat"]
    reading = dialect.read(b'{%b, "%b": 9000, "%b": 1}' % (CALL, *(name.encode() for name in names)))
    assert dialect.shape(reading.payload, 0).max_tokens == 9000


def noted(counts: Any) -> Usage:
    usage = Usage()
    note_usage(usage, counts)
    return usage


def test_usage_is_taken_over_in_the_words_of_chat() -> None:
    counts = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert noted(counts) == Usage(9, 5, 4, 3, reported=True)


def test_usage_is_taken_over_in_the_words_of_responses() -> None:
    counts = {
        "input_tokens": 9,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    assert noted(counts) == Usage(9, 5, 4, 3, reported=True)


@pytest.mark.parametrize("name", ["num_cached_tokens", "cached_tokens"])
def test_what_came_from_a_cache_may_stand_beside_the_prompt(name: str) -> None:
    counts = {"prompt_tokens": 9, "completion_tokens": 5}
    assert noted({**counts, name: 4}) == Usage(9, 5, 4, reported=True)
    assert noted({**counts, name: "4"}) == Usage(9, 5, reported=True)
    details = {"prompt_tokens_details": {"cached_tokens": 3}}
    assert noted({**counts, name: 4, **details}) == Usage(9, 5, 3, reported=True)


@pytest.mark.parametrize(
    "details", [None, 7, {}, {"cached_tokens": None}, {"cached_tokens": -1}, {"cached_tokens": True}]
)
def test_details_that_are_absent_or_nonsense_count_as_none(details: Any) -> None:
    counts = {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": details}
    assert noted(counts) == Usage(9, 0, reported=True)


@pytest.mark.parametrize(
    "counts",
    [
        None,
        [1],
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": "9"},
        {"prompt_tokens": True},
        {"prompt_tokens": -1},
        {"prompt_tokens": 2**40},
        {"prompt_tokens": 9, "completion_tokens": 1.5},
    ],
)
def test_nonsense_is_not_taken_over(counts: Any) -> None:
    assert noted(counts) == Usage()


def test_a_million_bytes_in_one_text_are_read() -> None:
    body = orjson.dumps({"model": "m", "x": "a" * 1_000_000})
    assert read_object(body).model == "m"


def test_who_only_reads_may_tell_the_total_alone() -> None:
    assert noted({"total_tokens": 3}) == Usage(3, 0, reported=True)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai.chat", b'{"messages": [], "tools": %b}'),
        ("openai.chat", b'{"messages": [{"tool_calls": %b}]}'),
        ("anthropic.messages", b'{"messages": [{"content": [{"type": "tool_use", "input": %b}]}]}'),
        ("anthropic.messages", b'{"messages": [], "system": %b}'),
        ("openai.responses", b'{"input": [{"arguments": %b}]}'),
        ("gemini.generate", b'{"contents": [{"parts": [%b]}]}'),
        ("cohere.rerank", b'{"query": "q", "documents": [%b]}'),
    ],
)
def test_what_is_nested_too_deeply_is_refused(dialect: str, body: bytes) -> None:
    payload = orjson.loads(body % (b"[" * 300 + b"]" * 300))
    with pytest.raises(BadRequest, match="nested too deeply"):
        DIALECTS[dialect].shape(payload, 0)
