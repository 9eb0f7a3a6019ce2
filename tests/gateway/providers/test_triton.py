from dataclasses import replace

import pytest

from gateway.core.exchange import Call, Target
from gateway.providers.registry import PROVIDERS
from gateway.providers.triton import TritonEndpoint

TRITON = PROVIDERS["triton"]
CALL = Call("completions", "openai.completions", "POST", "/completions", b"{}", {}, "ours", False)


def line(spec: TritonEndpoint, call: Call = CALL) -> str:
    facts = TRITON.facts(spec)
    spoken = TRITON.speaks(call.dialect, "ours", facts)
    wire = TRITON.request(Target("t/ours", "t", "triton", "", "", facts), call, spoken, b"{}", (), 0)
    return wire.head.decode().split("\r\n")[0]


def test_its_front_end_is_asked_as_openai_is() -> None:
    assert line(TritonEndpoint()) == "POST /v1/completions HTTP/1.1"
    assert TRITON.speaks("anthropic.messages", "ours") == "openai.chat"


@pytest.mark.parametrize(("stream", "method"), [(False, "generate"), (True, "generate_stream")])
def test_its_generate_endpoint_has_the_model_in_the_path(stream: bool, method: str) -> None:
    asked = line(TritonEndpoint(generate="vllm"), replace(CALL, stream=stream))
    assert asked == f"POST /v2/models/ours/{method} HTTP/1.1"


def test_there_it_speaks_nothing_else() -> None:
    facts = TRITON.facts(TritonEndpoint("http://host:8000", generate="tensorrt-llm"))
    assert {TRITON.speaks(one, "m", facts) for one in ("openai.chat", "openai.completions")} == {
        "triton.tensorrt-llm"
    }
