import pytest

from gateway.core.exchange import Call, Target
from gateway.core.failure import Failure
from gateway.providers.registry import PROVIDERS

GEMINI = PROVIDERS["gemini"]
CHAT = Call("chat", "openai.chat", "POST", "/chat/completions?x=1", b"{}", {}, "our", False)
OWN = CHAT._replace(dialect="gemini.array", path="/models/our:streamGenerateContent?trace=a:b", stream=True)


def line(call: Call, spoken: str, model: str = "gemini-3-pro") -> str:
    target = Target("t", "p", "gemini", "", model, GEMINI.facts(GEMINI.spec(api_key="k" * 8)))
    wire = GEMINI.request(target, call, spoken, b"{}", (), 0)
    assert b"x-goog-api-key: kkkkkkkk\r\n" in wire.head
    return wire.head.split(b"\r\n")[0].decode()


def test_the_model_of_the_target_stands_in_the_path() -> None:
    assert line(OWN, "gemini.array") == (
        "POST /v1beta/models/gemini-3-pro:streamGenerateContent?trace=a:b HTTP/1.1"
    )
    assert line(CHAT, "gemini.generate") == "POST /v1beta/models/gemini-3-pro:generateContent HTTP/1.1"
    streamed = line(CHAT._replace(stream=True), "gemini.generate", "a/b c\r\n")
    assert streamed == "POST /v1beta/models/a%2Fb%20c%0D%0A:streamGenerateContent?alt=sse HTTP/1.1"
    assert line(CHAT, "gemini.batch_embed").endswith(":batchEmbedContents HTTP/1.1")


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (400, b'{"reason": "API_KEY_INVALID"}', Failure.UNAUTHORIZED),
        (400, b"{}", Failure.REJECTED),
        (429, b"", Failure.THROTTLED),
    ],
)
def test_a_bad_key_is_ours_though_it_is_a_400(status: int, body: bytes, failure: Failure) -> None:
    assert GEMINI.classify(status, body) is failure
