"""An OpenAI-compatible endpoint: where it is, what it is told, and what is kept from its errors."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.address import Origin
from gateway.core.exchange import Call, Target, Upload
from gateway.core.failure import Failure
from gateway.providers.compatible import Compatible, Endpoint, Place, Tenant, parse_base_url
from gateway.providers.registry import PROVIDERS

COMPATIBLE = Compatible()
OPENAI = Compatible("https://api.openai.com/v1", needs_key=True)
URL = "http://127.0.0.1:8000/v1"


def sent(
    facts: Place, body: bytes | Upload = b"{}", turn: int = 0, model: str = ""
) -> tuple[bytes, Any, int | None]:
    call = Call(
        "chat", "openai.chat", "POST", "/chat/completions?x=1", body, {}, "m", False, [(b"openai-beta", b"b")]
    )
    target = Target("p/*", "p", "compatible", "openai.chat", model, facts)
    wire = COMPATIBLE.request(target, call, call.dialect, b"{ }", [(b"traceparent", b"t")], turn)
    assert wire.origin == facts.origin
    return wire.head, wire.body, wire.length


def test_a_request_has_the_path_the_credential_and_the_headers_of_the_call() -> None:
    facts = COMPATIBLE.facts(Endpoint(URL, "sk-ours", {"X-Org": "acme"}))
    assert sent(facts) == (
        b"POST /v1/chat/completions?x=1 HTTP/1.1\r\n"
        b"host: 127.0.0.1:8000\r\n"
        b"accept-encoding: identity\r\n"
        b"x-org: acme\r\n"
        b"authorization: Bearer sk-ours\r\n"
        b"openai-beta: b\r\n"
        b"traceparent: t\r\n",
        b"{ }",
        3,
    )


def test_a_body_that_streams_is_opened_for_the_model_of_the_target() -> None:
    class Streamed:
        sent = False

        def open(self, model: str) -> tuple[AsyncIterator[bytes], int | None]:
            async def pieces() -> AsyncIterator[bytes]:
                yield model.encode()

            return pieces(), 7

    _, body, length = sent(COMPATIBLE.facts(Endpoint(URL)), Streamed(), model="n")
    with pytest.raises(StopIteration) as first:
        anext(body).send(None)
    assert (first.value.value, length) == (b"n", 7)


def test_several_keys_take_turns() -> None:
    facts = COMPATIBLE.facts(Endpoint(URL, ["sk-1", "", "sk-2"]))
    assert COMPATIBLE.keys(facts) == 2
    assert [b"sk-1" in sent(facts, turn=turn)[0] for turn in range(4)] == [True, False, True, False]


def test_without_a_key_there_is_no_credential() -> None:
    assert b"authorization" not in sent(COMPATIBLE.facts(Endpoint(URL)))[0]


@pytest.mark.parametrize(
    ("provider", "api_key", "enabled"),
    [
        (COMPATIBLE, None, True),
        (COMPATIBLE, "sk", True),
        (COMPATIBLE, "", False),
        (COMPATIBLE, ["", ""], False),
        (OPENAI, None, False),
        (OPENAI, "", False),
        (OPENAI, ["", "sk"], True),
    ],
)
def test_a_key_that_is_given_but_empty_switches_a_provider_off(
    provider: Compatible, api_key: str | list[str] | None, enabled: bool
) -> None:
    assert provider.enabled(Endpoint(URL, api_key)) is enabled


def test_a_known_provider_has_an_address_that_the_file_may_override() -> None:
    assert OPENAI.facts(Endpoint(api_key="sk")).origin == Origin("https", "api.openai.com", 443)
    assert OPENAI.facts(Endpoint(URL, "sk")).origin == Origin("http", "127.0.0.1", 8000)
    with pytest.raises(ValueError, match=r"^base_url: is missing"):
        COMPATIBLE.facts(Endpoint())


def test_defaults_for_the_body_are_those_of_the_file() -> None:
    assert COMPATIBLE.params(COMPATIBLE.facts(Endpoint(URL, params={"seed": 1}))) == {"seed": 1}


def test_our_credentials_are_taken_out_of_a_providers_errors() -> None:
    facts = COMPATIBLE.facts(Endpoint(URL, ["sk-of-ours-1", "sk-of-ours-2", "short"]))
    told = b"bad key sk-of-ours-1, no sk-of-ours-2, short of it"
    assert COMPATIBLE.mask(facts, told) == b"bad key ***, no ***, short of it"
    assert COMPATIBLE.mask(facts, b"fine") == b"fine"


def test_headers_of_the_policy_that_open_doors_are_masked_like_keys() -> None:
    headers = {
        "Authorization": "Bearer made-by-hand-1",
        "X-Api-Key": "made-by-hand-2",
        "X-Region": "somewhere-nice",
    }
    facts = COMPATIBLE.facts(Endpoint("http://h/v1", None, headers))
    said = b"neither made-by-hand-1 nor made-by-hand-2 is known in somewhere-nice"
    assert COMPATIBLE.mask(facts, said) == b"neither *** nor *** is known in somewhere-nice"
    assert "ours" not in repr(facts)
    assert "ours" not in repr(Endpoint(URL, "sk-of-ours-1", {"x": "of-ours"}))


@pytest.mark.parametrize(
    ("url", "origin", "prefix"),
    [
        ("https://host/v1", Origin("https", "host", 443), "/v1"),
        ("http://host/", Origin("http", "host", 80), ""),
        ("HTTP://Host:8000/a/v1//", Origin("http", "host", 8000), "/a/v1"),
        ("http://[::1]:8000/v1", Origin("http", "::1", 8000), "/v1"),
        ("unix:/run/x y.sock", Origin("unix", "localhost", 0, "/run/x y.sock"), "/v1"),
    ],
)
def test_an_address_is_an_origin_and_a_prefix(url: str, origin: Origin, prefix: str) -> None:
    assert parse_base_url(url) == (origin, prefix)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("unix:", "base_url: names no socket"),
        ("host/v1", "base_url: must look like"),
        ("ftp://host/v1", "base_url: must look like"),
        ("http:///v1", "base_url: must look like"),
        ("http://host/../v1", "base_url: must look like"),
        ("http://[::1/v1", "base_url: must look like"),
        ("http://user:secret@host/v1", "base_url: must be a plain address"),
        ("http://host/v1?key=secret", "base_url: must be a plain address"),
        ("http://host/v1 ", "base_url: must be a plain address"),
        ("http://host/\x00v1", "base_url: must be a plain address"),
        ("http://h\u00f6st/v1", "base_url: must be a plain address"),
        ("http://host:0/v1", "base_url: the port must be a number from 1 to 65535"),
        ("http://host:65536/v1", "base_url: the port must be a number from 1 to 65535"),
        ("http://host:x/v1", "base_url: the port must be a number from 1 to 65535"),
    ],
)
def test_an_address_that_is_none_is_told_by_its_field_and_without_what_it_holds(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}") as caught:
        parse_base_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://host/v1", b"host: host\r\n"),
        ("https://host:80/v1", b"host: host:80\r\n"),
        ("http://[::1]/v1", b"host: [::1]\r\n"),
        ("unix:/run/x.sock", b"host: localhost\r\n"),
    ],
)
def test_the_host_header_names_a_port_that_is_not_the_usual(url: str, host: bytes) -> None:
    assert COMPATIBLE.facts(Endpoint(url)).heads[0].startswith(host)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (Endpoint(URL, "sk\r\nx: y"), "api_key: holds a control character"),
        (Endpoint(URL, "sk\x7f"), "api_key: holds a control character"),
        (
            Endpoint(URL, "sk\u20ac"),
            "api_key: holds characters that no header may carry; write Latin-1 alone",
        ),
        (Endpoint(URL, headers={"x-a": "1\n"}), "headers.x-a: holds a control character"),
        (Endpoint(URL, headers={"x a": "1"}), "headers: 'x a' is no header name; rename it"),
        (Endpoint(URL, headers={"": "1"}), "headers: '' is no header name; rename it"),
        (Endpoint(URL, headers={"x-\u00e4": "1"}), "headers: 'x-\u00e4' is no header name; rename it"),
        (Endpoint(URL, headers={"Host": "x"}), "headers: Host is set by the gateway itself"),
    ],
)
def test_what_no_header_may_carry_is_refused_by_its_field(spec: Endpoint, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}") as caught:
        COMPATIBLE.facts(spec)
    assert "sk" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "Authorization"),
        ("compatible", "authorization"),
        ("anthropic", "X-API-Key"),
        ("gemini", "x-goog-api-key"),
    ],
)
def test_a_credential_does_not_stand_beside_that_of_the_api_key(provider: str, name: str) -> None:
    adapter, other = PROVIDERS[provider], {"authorization": "x-api-key"}.get(name.lower(), "authorization")
    with pytest.raises(ValueError, match=f"^headers.{name}: would stand twice, .*remove it, or the api_key$"):
        adapter.facts(Endpoint(URL, "sk", headers={name: "Bearer other"}))
    facts = adapter.facts(Endpoint(URL, "sk", headers={other: "other"}))
    assert f"\r\n{other}: other\r\n".encode() in facts.heads[0]


def test_without_an_api_key_the_credential_may_be_written_by_hand() -> None:
    facts = COMPATIBLE.facts(Endpoint(URL, headers={"Authorization": "Basic abc"}))
    assert facts.heads[0].count(b"\r\nauthorization: Basic abc\r\n") == 1


def test_an_address_may_hold_an_account_which_errors_do_not_tell() -> None:
    hosted = Compatible("https://api.host/accounts/{account}/v1", needs_key=True, spec=Tenant)
    facts = hosted.facts(Tenant(api_key="k", account="0123456789ab"))
    assert facts.prefix == "/accounts/0123456789ab/v1"
    assert hosted.mask(facts, b"no such account 0123456789ab") == b"no such account ***"
    assert hosted.facts(Tenant(base_url="https://proxy/v1", api_key="k")).prefix == "/v1"


@pytest.mark.parametrize(
    "spec", [Tenant(api_key="k"), Tenant(api_key="k", account="a/b"), Endpoint(api_key="k")]
)
def test_an_account_that_is_missing_or_none_is_told(spec: Endpoint) -> None:
    with pytest.raises(ValueError, match=r"^account: "):
        Compatible("https://{account}.host/v1", spec=Tenant).facts(spec)


def test_organizations_and_projects_are_kept_from_errors() -> None:
    said = b"Rate limit reached in organization org-AbCdEf123456 (org_01hxyzabcd), project proj_abcdefgh12 of organized"
    facts = COMPATIBLE.facts(Endpoint(URL))
    assert COMPATIBLE.mask(facts, said) == (
        b"Rate limit reached in organization org-*** (org_***), project proj_*** of organized"
    )


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (429, b'{"error": {"code": "insufficient_quota"}}', Failure.UNAUTHORIZED),
        (429, b'{"error": {"type" : "credit_balance_exhausted"}}', Failure.UNAUTHORIZED),
        (429, b'{"error": {"message": "insufficient_quota", "type": "tokens"}}', Failure.THROTTLED),
        (400, b'{"error": {"code": "insufficient_quota"}}', Failure.REJECTED),
    ],
)
def test_an_account_without_money_is_no_throttling(status: int, body: bytes, failure: Failure) -> None:
    assert OPENAI.classify(status, body) is failure


def test_anthropic_is_told_a_version_where_the_client_told_none() -> None:
    provider = PROVIDERS["anthropic"]
    target = Target("t", "p", "anthropic", "", "", provider.facts(provider.spec(api_key="key-of-ours")))
    call = Call("messages", "anthropic.messages", "POST", "/messages", b"{}", {}, "m", False)
    own = replace(call, forward=((b"anthropic-version", b"2099-01-01"),))
    first, second = (provider.request(target, one, one.dialect, b"{}", (), 0).head for one in (call, own))
    assert b"anthropic-version: 2023-06-01\r\n" in first
    assert second.count(b"anthropic-version: ") == 1
    assert provider.source(target.facts) is None, "its key never expires"


def test_responses_are_spoken_to_where_the_policy_or_the_provider_type_says_so() -> None:
    native = Compatible(URL, responses=True)
    for row, said, speaks in (
        (COMPATIBLE, None, False),
        (COMPATIBLE, True, True),
        (native, None, True),
        (native, False, False),
    ):
        facts = row.facts(Endpoint(URL, responses=said))
        assert row.speaks("openai.responses", "m", facts) == ("openai.responses" if speaks else "openai.chat")
        assert row.speaks("openai.chat", "m", facts) == "openai.chat"
        assert row.speaks("anthropic.messages", "m", facts) == "openai.chat"
    alone = COMPATIBLE.facts(Endpoint(URL, responses="only"))
    for dialect in ("openai.responses", "openai.chat", "anthropic.messages", "gemini.generate"):
        assert COMPATIBLE.speaks(dialect, "m", alone) == "openai.responses"
    assert COMPATIBLE.speaks("openai.embeddings", "m", alone) == "openai.embeddings"
    assert COMPATIBLE.speaks("gemini.embed", "m", alone) == "openai.chat"
    with pytest.raises(ValueError, match=r"^responses: "):
        Compatible(native="anthropic.messages").facts(Endpoint(URL, responses=True))
