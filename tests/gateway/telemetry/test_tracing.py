"""Which calls are traced, by the standard variables; what becomes of spans is seen in whole gateways."""

import pytest

from gateway.core.exchange import Call
from gateway.telemetry.tracing import Sampler, route_of

RATIO = {"OTEL_TRACES_SAMPLER": "traceidratio"}


@pytest.mark.parametrize("share", ["nan", "inf", "-0.1", "1.1", "half"])
def test_a_share_that_is_none_says_how_one_is_written(share: str) -> None:
    with pytest.raises(ValueError, match=r"^OTEL_TRACES_SAMPLER_ARG: takes a share from 0 to 1, as 0.25$"):
        Sampler({**RATIO, "OTEL_TRACES_SAMPLER_ARG": share}, exporting=True)


@pytest.mark.parametrize(("share", "is_traced"), [("0", False), ("1.0", True), ("", True)])
def test_a_share_decides_which_calls_are_traced(share: str, is_traced: bool) -> None:
    sampler = Sampler({**RATIO, "OTEL_TRACES_SAMPLER_ARG": share}, exporting=True)
    assert (sampler.sample(None, None) is not None) is is_traced


def test_a_sampler_that_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match="OTEL_TRACES_SAMPLER: there is no sampler 'sometimes'"):
        Sampler({"OTEL_TRACES_SAMPLER": "sometimes"}, exporting=True)


def test_a_sampler_left_empty_is_the_default() -> None:
    assert Sampler({"OTEL_TRACES_SAMPLER": ""}, exporting=True).sample(None, None) is not None


@pytest.mark.parametrize(
    ("dialect", "path", "route"),
    [
        ("openai.chat", "/chat/completions", "/v1/chat/completions"),
        ("openai.chat", "/chat/completions?a=b/c", "/v1/chat/completions"),
        ("anthropic.count_tokens", "/messages/count_tokens", "/v1/messages/count_tokens"),
        ("cohere.rerank", "/rerank", "/v2/rerank"),
        ("cohere.rerank_v1", "/rerank", "/v1/rerank"),
        ("gemini.array", "/models/gemini-2.5:streamGenerateContent", "/v1beta/models/{model}:streamGenerateContent"),
        ("openai.raw", "/files/file-abc1/content", "/v1/files/{id}/content"),
        ("openai.raw", "/vector_stores/vs_1/file_batches/vsfb_2", "/v1/vector_stores/{id}/file_batches/{id}"),
    ],
)  # fmt: skip
def test_a_route_is_the_template_of_the_path(dialect: str, path: str, route: str) -> None:
    call = Call("label", dialect, "POST", path, b"", {}, "m", stream=False)
    assert route_of(call) == route
