"""Bedrock's addresses and credentials."""

from typing import Any

import pytest

from gateway.core.address import Origin
from gateway.core.exchange import Call, Target
from gateway.core.failure import BadRequest
from gateway.providers.aws.bedrock import AwsEndpoint, Bedrock
from gateway.providers.aws.chain import AwsChain


def head(model: str, *, stream: bool = False, spoken: str = "bedrock.converse", **spec: Any) -> str:
    facts = Bedrock().facts(AwsEndpoint("eu-central-1", **spec))
    target = Target("b/*", "b", "bedrock", "openai.chat", "", facts)
    call = Call("chat", "openai.chat", "POST", "/chat/completions", b"{}", {}, model, stream)
    wire = Bedrock().request(target, call, spoken, b"{}", [(b"traceparent", b"x")], 0)
    return wire.head.decode()


def test_the_model_stands_in_the_path_and_what_is_asked_of_it_behind() -> None:
    host = "bedrock-runtime.eu-central-1.amazonaws.com"
    told = head("us.amazon.nova-2-lite-v1:0", api_key="k")
    assert told.startswith(f"POST /model/us.amazon.nova-2-lite-v1%3A0/converse HTTP/1.1\r\nhost: {host}\r\n")
    assert "\r\nauthorization: Bearer k\r\n" in told
    assert told.endswith("\r\ncontent-type: application/json\r\ntraceparent: x\r\n")
    assert "/converse-stream HTTP" in head("x", stream=True)
    assert "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fx/converse " in head(
        "arn:aws:bedrock:eu:1:inference-profile/x"
    )


CLAUDE, PROFILE = "us.anthropic.claude-x", "arn:aws:bedrock:eu:1:application-inference-profile/x"


def test_claude_is_asked_in_anthropics_own_words_where_the_client_uses_them() -> None:
    def spoken(dialect: str, model: str, **spec: Any) -> str:
        facts = Bedrock().facts(AwsEndpoint("eu-central-1", **spec))
        return Bedrock().speaks(dialect, model, facts).removeprefix("bedrock.")

    assert Bedrock().speaks("anthropic.messages", CLAUDE) == "bedrock.messages"
    messages, count = "anthropic.messages", "anthropic.count_tokens"
    assert [spoken(messages, model) for model in (CLAUDE, PROFILE, "amazon.nova")] == [
        "messages", "converse", "converse",
    ]  # fmt: skip
    assert spoken(messages, PROFILE, messages="invoke") == "messages"
    assert spoken(messages, CLAUDE, messages="converse") == "converse"
    assert spoken("openai.chat", CLAUDE, messages="invoke") == "converse"
    assert [spoken(count, CLAUDE, messages=way) for way in ("auto", "invoke", "converse")] == [
        "count_tokens"
    ] * 3
    assert spoken(count, PROFILE, messages="invoke") == "count_tokens"
    assert spoken(count, "amazon.nova") == "converse"


def test_a_guardrail_of_the_policies_is_in_every_call() -> None:
    guarded = {"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}}
    facts = Bedrock().facts(AwsEndpoint("eu-central-1", params=guarded))
    assert Bedrock().speaks("anthropic.messages", CLAUDE, facts) == "bedrock.converse"
    with pytest.raises(ValueError, match="messages: invoke has no place for guardrailConfig of params"):
        Bedrock().facts(AwsEndpoint("eu-central-1", params=guarded, messages="invoke"))


def test_messages_and_counts_have_paths_of_their_own() -> None:
    def line(spoken: str, model: str = CLAUDE, *, stream: bool = False) -> str:
        return head(model, spoken=spoken, stream=stream).split(" ")[1]

    assert line("bedrock.messages") == "/model/us.anthropic.claude-x/invoke"
    assert line("bedrock.messages", stream=True) == "/model/us.anthropic.claude-x/invoke-with-response-stream"
    assert line("bedrock.count_tokens") == "/model/anthropic.claude-x/count-tokens"
    assert (
        line("bedrock.count_tokens", "global.anthropic.claude-x") == "/model/anthropic.claude-x/count-tokens"
    )
    assert line("bedrock.count_tokens", "anthropic.claude-x") == "/model/anthropic.claude-x/count-tokens"


def test_without_a_key_requests_are_signed() -> None:
    signed, shown = (
        Bedrock().facts(AwsEndpoint("eu-central-1", api_key=key, profile="work")) for key in (None, "k")
    )
    assert Bedrock().source(signed) == AwsChain("eu-central-1", "bedrock", "work")
    assert "authorization" not in head("x")
    assert Bedrock().source(shown) is None
    assert Bedrock().enabled(AwsEndpoint("eu-central-1"))
    assert not Bedrock().enabled(AwsEndpoint("eu-central-1", api_key=""))


def test_china_and_other_endpoints_have_addresses_of_their_own() -> None:
    china = Bedrock().facts(AwsEndpoint("cn-north-1"))
    assert china.origin.host == "bedrock-runtime.cn-north-1.amazonaws.com.cn"
    private = Bedrock().facts(AwsEndpoint("eu-central-1", "http://127.0.0.1:81/aws"))
    assert (private.origin, private.prefix) == (Origin("http", "127.0.0.1", 81), "/aws")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (AwsEndpoint(""), "region: must be the name"), (AwsEndpoint("eu/../x"), "region: must be"),
        (AwsEndpoint("é"), "region: must be"), (AwsEndpoint("eu-central-1", "ftp://x"), "endpoint: must look like"),
        (AwsEndpoint("eu-central-1", headers={"host": "x"}), "headers: host is set by the gateway"),
        (AwsEndpoint("eu-central-1", headers={"Authorization": "x"}), "headers.Authorization: would stand twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_field(spec: AwsEndpoint, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Bedrock().facts(spec)


@pytest.mark.parametrize(
    "name",
    [
        "x?y=1", "x#y", "x\r\nx-evil: 1", "x%0D%0Ay", "x%3Fy", "x y", "x\x7f", "\xe9", "..", ".", "/x", "a/../b", "",
        "x" * 2049,
    ],
)  # fmt: skip
def test_a_name_that_could_end_the_path_or_climb_out_of_it_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="no model of Bedrock's") as refusal:
        head(name)
    assert (refusal.value.param, refusal.value.status) == ("model", 400)


def test_the_account_in_an_arn_is_not_told() -> None:
    facts = Bedrock().facts(AwsEndpoint("eu-central-1", api_key="bedrock-key"))
    said = b"bedrock-key: arn:aws:bedrock:eu-central-1:123456789012:x, arn:aws-cn:iam::123456789012:role/y"
    told = b"***: arn:aws:bedrock:eu-central-1:***:x, arn:aws-cn:iam::***:role/y"
    assert Bedrock().mask(facts, said) == told
    said = b'Account 123456789012 is throttled ("account": "123456789012"), order 123456789012'
    assert Bedrock().mask(facts, said) == b'Account *** is throttled ("account": "***"), order 123456789012'
