"""What the head of a provider's answer says: its id for the call, and when its limits are free again."""

import pytest

from gateway.core.exchange import Call
from gateway.pipeline.head import elsewhere, is_other, misread, packing, request_id, reset_seconds, seconds


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({b"cf-ray": b"c", b"x-request-id": b"r"}, "r"),
        ({b"request-id": b"req_1", b"cf-ray": b"c"}, "req_1"),
        ({b"apim-request-id": b"a", b"x-ms-request-id": b"m"}, "a"),
        ({b"x-kong-request-id": b"k", b"mistral-correlation-id": b"m", b"cf-ray": b"c"}, "m"),
        ({b"x-amzn-requestid": b"z"}, "z"),
        ({b"server": b"x"}, ""),
    ],
)
def test_the_providers_id_is_found_under_its_name_there(headers: dict[bytes, bytes], found: str) -> None:
    assert request_id(headers) == found


@pytest.mark.parametrize(
    ("written", "meant"),
    [(b"12ms", 0.012), (b"1s", 1), (b"4.3s", 4.3), (b"1m12.5s", 72.5), (b"6m0s", 360), (b"2h3m4s", 7384), (b"59", 59),
     (b"17.399999999s", 17.399999999), (b"2026-01-01T00:00:00Z", 0), (b"soon", 0), (b"", 0)],
)  # fmt: skip
def test_lengths_of_time_are_read_as_openai_groq_and_azure_write_them(written: bytes, meant: float) -> None:
    assert seconds(written) == pytest.approx(meant)


def test_only_limits_that_are_used_up_make_one_wait() -> None:
    spent = {
        b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"2s",
        b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"7s",
    }  # fmt: skip
    left = {b"x-ratelimit-remaining-input-images": b"5", b"x-ratelimit-reset-input-images": b"90s"}
    assert reset_seconds(spent | left) == 7
    assert reset_seconds(left) is None
    assert reset_seconds({b"x-ratelimit-remaining-tokens": b"0"}) is None


@pytest.mark.parametrize(
    ("dialect", "asked", "came", "other"),
    [
        ("openai.chat", True, True, False), ("openai.chat", True, False, True), ("openai.chat", False, True, True),
        ("openai.completions", True, False, True), ("gemini.array", True, False, True),
        ("openai.embeddings", True, False, False), ("openai.embeddings", False, True, True),
        ("openai.raw", True, False, False), ("openai.raw", False, True, False),
    ],
)  # fmt: skip
def test_an_answer_is_of_another_kind_where_a_stream_was_asked_for_or_was_not(
    dialect: str, asked: bool, came: bool, other: bool
) -> None:
    assert is_other(Call("", dialect, "POST", "/", b"", {}, "m", asked), came) is other


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({b"content-type": b"Text/HTML; charset=x"}, "with a body (text/html) that is no answer in its format"),
        ({}, "with a body (no content-type) that is no answer in its format"),
        ({b"content-type": b"<b>"}, "with a body (no content-type) that is no answer in its format"),
        ({b"content-encoding": b" GZip"}, "packed by gzip, which was not asked for"),
        ({b"content-encoding": b"identity", b"content-type": b"text/plain"},
         "with a body (text/plain) that is no answer in its format"),
    ],
)  # fmt: skip
def test_a_head_tells_why_nothing_could_be_made_of_a_body(headers: dict[bytes, bytes], told: str) -> None:
    assert misread(200, headers) == f"it answered 200 {told}"
    assert packing(headers) == ("gzip" if "packed" in told else "")


def test_where_a_redirect_leads_is_told_without_its_query() -> None:
    assert elsewhere({b"location": b"https://other.test/v1?sig=secret"}) == "https://other.test/v1"
    assert elsewhere({b"etag": b"x"}) == ""
