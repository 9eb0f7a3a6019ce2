from dataclasses import replace

import pytest

from gateway.core.exchange import Call, Target
from gateway.core.failure import BadRequest, Failure
from gateway.providers.registry import PROVIDERS

GEMINI = PROVIDERS["gemini"]
CHAT = Call("chat", "openai.chat", "POST", "/chat/completions?x=1", b"{}", {}, "our", False)
OWN = replace(CHAT, dialect="gemini.array", path="/models/our:streamGenerateContent?trace=a:b", stream=True)


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
    streamed = line(replace(CHAT, stream=True), "gemini.generate", "a/b@1:c")
    assert streamed == "POST /v1beta/models/a%2Fb@1%3Ac:streamGenerateContent?alt=sse HTTP/1.1"
    assert line(CHAT, "gemini.batch_embed").endswith(":batchEmbedContents HTTP/1.1")


NAMED_IN_PATHS = ("gemini", "vertex", "azure", "bedrock", "sagemaker")


@pytest.mark.parametrize("kind", NAMED_IN_PATHS)
@pytest.mark.parametrize(
    "name", ["", "a b", "a\r\nx: 1", "a?b", "a#b", "..", "a/../b", "%2e%2e", "/a", "a" * 3000, "ä"]
)
def test_a_name_that_would_not_stay_in_its_place_in_a_path_is_no_name(kind: str, name: str) -> None:
    assert PROVIDERS[kind].misnamed(name)


@pytest.mark.parametrize("kind", PROVIDERS.keys())
def test_what_models_are_called_is_a_name(kind: str) -> None:
    assert PROVIDERS[kind].misnamed("gpt-5") == ""


def test_a_call_for_such_a_name_is_refused_by_its_field() -> None:
    with pytest.raises(BadRequest, match="it stands in a path") as caught:
        line(CHAT, "gemini.generate", "a/../b")
    assert caught.value.param == "model"


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


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"Publisher Model `projects/acme-prod-4711/locations/eu/x` was not found.",
         b"Publisher Model `projects/***/locations/eu/x` was not found."),
        (b"not enabled in project 123456789012. Enable it at https://x/?project=acme-prod then",
         b"not enabled in project ***. Enable it at https://x/?project=*** then"),
        (b"consumer 'projects/123456789012', in domain:google.com:acme",
         b"consumer 'projects/***', in domain:google.com:acme"),
        (b"this project is suspended; projects like yours", b"this project is suspended; projects like yours"),
    ],
)  # fmt: skip
def test_googles_projects_are_not_told(said: bytes, told: bytes) -> None:
    facts = GEMINI.facts(GEMINI.spec(api_key="k" * 8))
    assert GEMINI.mask(facts, said) == told
    assert PROVIDERS["vertex"].mask(facts, said) == told
