"""SageMaker's addresses and signatures."""

from typing import Any

import pytest

from gateway.core.exchange import Call, Target
from gateway.core.failure import BadRequest
from gateway.providers.aws.chain import AwsChain
from gateway.providers.aws.sagemaker import SageMaker, SageMakerEndpoint
from gateway.wire.registry import DIALECTS

ADAPTER = SageMaker()


def head(name: str, *, stream: bool = False, **spec: Any) -> str:
    facts = ADAPTER.facts(SageMakerEndpoint("eu-central-1", **spec))
    target = Target("s/*", "s", "sagemaker", "openai.chat", "", facts)
    call = Call("chat", "openai.chat", "POST", "/chat/completions", b"{}", {}, name, stream)
    return ADAPTER.request(target, call, "sagemaker.chat", b"{}", (), 0).head.decode()


def test_the_endpoint_stands_in_the_path() -> None:
    host = "runtime.sagemaker.eu-central-1.amazonaws.com"
    assert head("my-llama-3").startswith(
        f"POST /endpoints/my-llama-3/invocations HTTP/1.1\r\nhost: {host}\r\n"
    )
    assert "/endpoints/x/invocations-response-stream HTTP" in head("x", stream=True)
    component = {"X-Amzn-SageMaker-Inference-Component": "adapter-1"}
    assert "\r\nx-amzn-sagemaker-inference-component: adapter-1\r\n" in head("x", headers=component)


@pytest.mark.parametrize(
    "name", ["", "x/y", "x?y", "x%0Dy", "x\r\ny", "..", "x.y", "-x", "x-", "x" * 64, "\xe9"]
)
def test_a_name_that_no_endpoint_has_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="no endpoint of SageMaker's"):
        head(name)


def test_requests_are_signed_for_sagemaker() -> None:
    facts = ADAPTER.facts(SageMakerEndpoint("eu-central-1", profile="work"))
    assert ADAPTER.source(facts) == AwsChain("eu-central-1", "sagemaker", "work")
    assert ADAPTER.enabled(SageMakerEndpoint("eu-central-1"))
    assert "authorization" not in head("x")
    with pytest.raises(ValueError, match="region: must be"):
        ADAPTER.facts(SageMakerEndpoint("eu central"))


def test_all_is_asked_in_the_containers_chat() -> None:
    assert {ADAPTER.speaks(dialect, "m") for dialect in DIALECTS} == {"sagemaker.chat"}


def test_the_account_is_not_told() -> None:
    said = b"See https://console for more, in account 123456789012 for more information."
    told = ADAPTER.mask(ADAPTER.facts(SageMakerEndpoint("eu-central-1")), said)
    assert told == b"See https://console for more, in account *** for more information."
