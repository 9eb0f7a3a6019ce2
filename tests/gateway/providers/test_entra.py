"""Tokens of Entra: what is asked for them, and what is made of the answer."""

import pytest

from gateway.core.address import Origin, WireRequest
from gateway.core.credential import Credential, StepResult, Unobtainable
from gateway.providers.entra import Entra

APP = Entra("acme.example", "app-1", "s&cret")
MACHINE = Entra("", "")
WIRE = WireRequest(Origin("https", "h", 443), b"", b"", 0)


def asked(source: Entra) -> WireRequest:
    wire = next(source.obtain(0.0, {}))
    assert isinstance(wire, WireRequest)
    return wire


def obtained(told: StepResult, source: Entra = APP) -> Credential:
    steps = source.obtain(0.0, {})
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(told)
    credential: Credential = end.value.value
    return credential


def test_an_app_shows_its_secret_to_its_tenant() -> None:
    wire = asked(APP)
    assert wire.origin == Origin("https", "login.microsoftonline.com", 443)
    assert wire.head.startswith(
        b"POST /acme.example/oauth2/v2.0/token HTTP/1.1\r\nhost: login.microsoftonline.com\r\n"
    )
    assert wire.body == (
        b"grant_type=client_credentials&client_id=app-1&client_secret=s%26cret"
        b"&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default"
    )
    assert wire.length == len(wire.body)


@pytest.mark.parametrize(("source", "more"), [(MACHINE, b""), (Entra("", "id-2"), b"&client_id=id-2")])
def test_a_machine_asks_its_own_metadata_service(source: Entra, more: bytes) -> None:
    wire = asked(source)
    line, *headers = wire.head.split(b"\r\n")
    assert wire.origin == Origin("http", "169.254.169.254", 80)
    assert line == (
        b"GET /metadata/identity/oauth2/token?api-version=2018-02-01"
        b"&resource=https%3A%2F%2Fcognitiveservices.azure.com" + more + b" HTTP/1.1"
    )
    assert b"metadata: true" in headers


def test_a_token_is_good_for_as_long_as_it_says_and_shown_as_a_bearers() -> None:
    """The machine's service writes its seconds as a text."""
    came = obtained(StepResult(200, b'{"access_token": "ey", "expires_in": "3599"}'), MACHINE)
    assert came == Credential(b"ey", 3599.0)
    assert APP.authorize(came.value, WIRE, 0.0) == b"authorization: Bearer ey\r\n"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (
            StepResult(401, b'{"error": "invalid_client", "error_description": "secret 123"}'),
            "invalid_client",
        ),
        (StepResult(200, b"[]"), "no reason given"),
        (StepResult(200, b"<html>"), "no reason given"),
        (StepResult(0, b"no route to host"), "no route to host"),
    ],
)
def test_a_token_that_does_not_come_is_told_without_secrets(told: StepResult, why: str) -> None:
    steps = APP.obtain(0.0, {})
    next(steps)
    with pytest.raises(Unobtainable, match=why) as caught:
        steps.send(told)
    assert "secret 123" not in str(caught.value)


def test_a_source_is_named_without_its_secret_and_equal_ones_are_shared() -> None:
    assert (APP.name, MACHINE.name) == ("Entra, app app-1", "Entra, this machine's identity")
    assert "s&cret" not in repr(APP)
    assert {APP, Entra("acme.example", "app-1", "s&cret")} == {APP}
