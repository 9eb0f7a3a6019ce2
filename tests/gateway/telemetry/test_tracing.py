"""Which calls are traced, by the standard variables; what becomes of spans is seen in whole gateways."""

from pathlib import Path

import pytest

from gateway.core.exchange import Call
from gateway.telemetry.tracing import Sampler, route_of
from tests.running import gateway, policies
from tests.scripted import Provider

RATIO = {"OTEL_TRACES_SAMPLER": "traceidratio"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


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


Head = list[tuple[str, str]]


async def carried(tmp_path: Path, sent: Head, environ: dict[str, str]) -> dict[str, str]:
    """What of a trace reaches the provider."""
    async with Provider() as provider, gateway(tmp_path, policies(provider.url), environ) as running:
        async with running.client() as client:
            body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}
            assert (await client.post("/v1/chat/completions", json=body, headers=sent)).status_code == 200
    return {name: value for name, value in provider.asked[0].headers.items() if name.startswith("trace")}


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-03",
        f"cc-{TRACE}-{SPAN}-01-of-a-later-version",
        "of-nobody",
    ],
)
async def test_who_records_nothing_passes_a_trace_on_as_it_came(tmp_path: Path, traceparent: str) -> None:
    """A span that nobody ever sees would tear the client's trace from the provider's."""
    sent = {"traceparent": traceparent, "tracestate": "a=1,b@c=" + 300 * "x" + ", d=" + 300 * "y"}
    assert await carried(tmp_path, [*sent.items()], {}) == sent


async def test_a_state_of_several_lines_passes_on_whole(tmp_path: Path) -> None:
    sent = [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "a=1"), ("tracestate", "b=2")]
    assert (await carried(tmp_path, sent, {}))["tracestate"] == "a=1, b=2"


async def test_who_sent_no_trace_has_none_passed_on(tmp_path: Path) -> None:
    assert await carried(tmp_path, [("tracestate", "a=1")], {}) == {}


async def test_who_records_some_calls_tells_which_attempt_of_an_unrecorded_one_asks(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}
    sent = [("traceparent", f"00-{TRACE}-{SPAN}-00"), ("tracestate", "a=1")]
    came = await carried(tmp_path, sent, environ)
    version, trace, span, flags = came["traceparent"].split("-")
    assert (version, trace, flags, came["tracestate"]) == ("00", TRACE, "00", "a=1")
    assert len(span) == 16
    assert span != SPAN


@pytest.mark.parametrize(("traceparent", "trace"), [(f"00-{TRACE}-{SPAN}-01", TRACE), ("of-nobody", "")])
def test_a_trace_that_passes_is_known_by_its_id_and_not_sampled(traceparent: str, trace: str) -> None:
    passing = Sampler({}, exporting=False).sample(traceparent.encode(), None)
    assert passing is not None
    assert (passing.trace_id, passing.sampled) == (trace, False)


@pytest.mark.parametrize("parent", [f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", "x"])
def test_a_trace_without_a_sound_parent_begins_anew(parent: str) -> None:
    begun = Sampler({}, exporting=True).sample(parent.encode(), b"a=1")
    assert begun is not None
    assert (begun.trace_id != TRACE, begun.parent_id, begun.state) == (True, "", "")


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
