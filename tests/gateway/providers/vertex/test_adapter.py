from dataclasses import replace

import orjson
import pytest

from gateway.core.address import Origin, WireRequest
from gateway.core.exchange import Call, Target
from gateway.providers.vertex.adapter import Project, Vertex
from gateway.providers.vertex.tokens import GoogleToken
from tests.gateway.providers.vertex.accounts import account

VERTEX = Vertex()
CALL = Call("messages", "anthropic.messages", "POST", "/messages", b"{}", {}, "claude-x", False)


def asked(
    call: Call, spoken: str, body: bytes = b"{}", model: str = "", location: str = "global"
) -> WireRequest:
    facts = VERTEX.facts(Project("p-1", location))
    assert VERTEX.enabled(Project("p-1", location))
    return VERTEX.request(Target("t", "p", "vertex", "", model, facts), call, spoken, body, (), 0)


def test_claude_is_told_the_version_in_the_body_and_the_model_in_the_path() -> None:
    body = b'{"model": "claude-x", "max_tokens": 5, "messages": []}'
    wire = asked(CALL, "anthropic.messages", body, "claude-y@20250101", "europe-west1")
    assert wire.origin == Origin("https", "europe-west1-aiplatform.googleapis.com", 443)
    path = "/v1beta1/projects/p-1/locations/europe-west1/publishers/anthropic/models/claude-y@20250101"
    assert wire.head.startswith(f"POST {path}:rawPredict HTTP/1.1\r\n".encode())
    assert isinstance(wire.body, bytes)
    assert orjson.loads(wire.body) == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 5,
        "messages": [],
    }
    assert wire.length == len(wire.body)
    said = b'{"anthropic_version":"mine","messages":[{"wei": 123456789012345678901234, "x": 1.0e0}]}'
    exactly = asked(CALL, "anthropic.messages", said.replace(b'"messages"', b'"model":"m","messages"'))
    assert exactly.body == said, "what the client wrote stays as it was written"
    streamed = asked(replace(CALL, stream=True, dialect="openai.chat"), "anthropic.messages", body)
    assert b"/models/claude-x:streamRawPredict HTTP/1.1" in streamed.head
    counted = asked(replace(CALL, dialect="anthropic.count_tokens"), "anthropic.count_tokens", body)
    assert b"/models/count-tokens:rawPredict HTTP/1.1" in counted.head
    assert b'"model":"claude-x"' in bytes(counted.body)  # type: ignore[arg-type]


def test_gemini_is_asked_at_its_publisher() -> None:
    call = replace(CALL, dialect="openai.chat", model="gemini-3-pro")
    wire = asked(call, "gemini.generate", b"{ }")
    path = "/v1beta1/projects/p-1/locations/global/publishers/google/models/gemini-3-pro:generateContent"
    assert (wire.origin.host, wire.body) == ("aiplatform.googleapis.com", b"{ }")
    assert wire.head.startswith(f"POST {path} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    ("model", "dialect", "spoken"),
    [
        ("claude-x", "anthropic.messages", "anthropic.messages"),
        ("claude-x", "anthropic.count_tokens", "anthropic.count_tokens"),
        ("claude-x", "gemini.generate", "anthropic.messages"),
        ("gemini-x", "gemini.array", "gemini.array"),
        ("gemini-x", "anthropic.messages", "gemini.generate"),
    ],
)
def test_each_publishers_models_speak_its_language(model: str, dialect: str, spoken: str) -> None:
    assert VERTEX.speaks(dialect, model) == spoken


def test_its_tokens_are_those_of_the_account_or_of_the_machine() -> None:
    facts = VERTEX.facts(Project("p", "l", "http://127.0.0.1:1", account()))
    assert facts.prefix == "/projects/p/locations/l/publishers"
    source = VERTEX.source(facts)
    assert isinstance(source, GoogleToken)
    assert source.account is not None
    assert VERTEX.source(VERTEX.facts(Project("p", "l"))) == GoogleToken()
    assert VERTEX.params(facts) == {}


def test_no_other_credential_stands_beside_its_tokens() -> None:
    with pytest.raises(ValueError, match=r"headers\.Authorization: would stand twice"):
        VERTEX.facts(Project("p", "l", headers={"Authorization": "Bearer other"}))


@pytest.mark.parametrize(("project", "location", "name"), [("p/q", "l", "project"), ("p", "", "location")])
def test_names_that_would_break_out_of_the_path_are_refused(project: str, location: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: must be a plain name"):
        VERTEX.facts(Project(project, location))
