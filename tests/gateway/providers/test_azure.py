"""Azure: three shapes of address, a key in a header of its own, or a token of Entra."""

from typing import Any, Literal

import pytest

from gateway.core.exchange import Call, Target
from gateway.providers.azure import Azure, AzureEndpoint
from gateway.providers.entra import Entra

AZURE = Azure()
HOST = "https://acme.openai.azure.com"


def line(path: str = "/chat/completions", model: str = "my-gpt", **spec: Any) -> str:
    """The request line of a call, without its method and version."""
    facts = AZURE.facts(AzureEndpoint(**{"endpoint": HOST, "api_key": "k", **spec}))
    target = Target("a/m", "a", "azure", "openai.chat", "", facts)
    call = Call("chat", "openai.chat", "POST", path, b"{}", {}, model, False)
    head = AZURE.request(target, call, "openai.chat", b"{}", (), 0).head
    return head.decode().split("\r\n")[0].split(" ")[1]


@pytest.mark.parametrize(
    ("spec", "path", "asked"),
    [
        ({"api_version": "2024-10-21"}, "/chat/completions",
         "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"),
        ({"api_version": "2024-10-21"}, "/files?limit=1", "/openai/files?limit=1&api-version=2024-10-21"),
        ({}, "/chat/completions", "/openai/v1/chat/completions"),
        ({"endpoint": "https://acme.services.ai.azure.com/models", "api_version": "2024-05-01-preview"},
         "/chat/completions", "/models/chat/completions?api-version=2024-05-01-preview"),
    ],
)  # fmt: skip
def test_an_address_has_one_of_three_shapes(spec: dict[str, Any], path: str, asked: str) -> None:
    assert line(path, **spec) == asked


def test_what_names_no_model_names_no_deployment() -> None:
    assert line("/images/generations", "", api_version="1") == "/openai/images/generations?api-version=1"


def test_responses_are_spoken_where_the_policy_says_so_and_by_no_deployment() -> None:
    ways: list[tuple[bool | Literal["only"] | None, str]] = [
        (None, "openai.chat"), (True, "openai.responses"), ("only", "openai.responses"),
    ]  # fmt: skip
    for said, spoken in ways:
        facts = AZURE.facts(AzureEndpoint(HOST, api_key="k", responses=said))
        assert AZURE.speaks("openai.responses", "m", facts) == spoken
        assert AZURE.speaks("openai.chat", "m", facts) == (
            "openai.responses" if said == "only" else "openai.chat"
        )
    assert line("/responses", api_version="1") == "/openai/responses?api-version=1"


def test_a_key_stands_in_azures_own_header_and_is_kept_from_errors() -> None:
    facts = AZURE.facts(AzureEndpoint(HOST, api_key=["0123456789", "short"], params={"temperature": 0}))
    assert facts.heads[0].endswith(b"api-key: 0123456789\r\n")
    assert AZURE.mask(facts, b"bad key 0123456789") == b"bad key ***"
    assert AZURE.source(facts) is None
    assert AZURE.params(facts) == {"temperature": 0}


def test_without_a_key_it_is_entras_tokens_that_are_shown() -> None:
    spec = AzureEndpoint(HOST, tenant_id="t", client_id="c", client_secret="hidden-secret")
    facts = AZURE.facts(spec)
    assert AZURE.source(facts) == Entra("t", "c", "hidden-secret")
    assert b"api-key" not in facts.heads[0]
    assert "hidden-secret" not in repr(spec) + repr(facts)
    assert AZURE.mask(facts, b"hidden-secret") == b"***"


@pytest.mark.parametrize(("api_key", "enabled"), [(None, True), ("", False), ("k", True)])
def test_a_key_that_is_given_but_empty_switches_it_off(api_key: str | None, enabled: bool) -> None:
    assert AZURE.enabled(AzureEndpoint(HOST, api_key=api_key)) is enabled


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"endpoint": "acme"}, "endpoint"),
        ({"api_version": "2024 10"}, "api_version"),
        ({"api_key": None, "authority": "login"}, "authority"),
        ({"endpoint": "https://acme.services.ai.azure.com/models"}, "api_version"),
        ({"headers": {"Api-Key": "other"}}, "headers.Api-Key"),
        ({"api_key": None, "headers": {"Authorization": "Bearer other"}}, "headers.Authorization"),
    ],
)
def test_what_is_wrong_is_told_by_its_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        line(**spec)
