from pathlib import Path
from urllib.parse import parse_qs

import orjson
import pytest

from gateway.core.address import WireRequest
from gateway.core.credential import Credential, Step, StepResult, Unobtainable
from gateway.providers.vertex.tokens import GoogleToken, service_account
from tests.gateway.providers.vertex.accounts import account, claims, curve

TOKEN = StepResult(200, b'{"access_token": "t", "expires_in": 3599, "token_type": "Bearer"}')
GIVEN = Credential(b"authorization: Bearer t\r\n", 3599.0)


def obtained(
    source: GoogleToken, environ: dict[str, str], *told: StepResult
) -> tuple[Credential, list[Step]]:
    steps, asked = source.obtain(1e9, environ), []
    answer = None
    for one in [*told, None]:
        try:
            asked.append(steps.send(answer))  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, asked
        answer = one
    raise AssertionError("asks for more")


def of(request: Step) -> tuple[str, dict[str, list[str]]]:
    assert isinstance(request, WireRequest)
    assert isinstance(request.body, bytes)
    line = request.head.split(b"\r\n")[0].decode()
    return f"{request.origin.scheme}://{request.origin.host} {line}", parse_qs(request.body.decode())


def test_a_service_account_shows_a_signed_assertion() -> None:
    source = GoogleToken(service_account(account()))
    credential, [asked] = obtained(source, {}, TOKEN)
    assert credential == GIVEN
    line, form = of(asked)
    assert line == "https://oauth2.googleapis.com POST /token HTTP/1.1"
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    head, told = claims(form["assertion"][0])
    assert head == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert told == {
        "iss": "sa@p",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1000000000,
        "exp": 1000003600,
    }
    assert isinstance(asked, WireRequest)
    assert source.authorize(credential.value, asked, 0) == b"authorization: Bearer t\r\n"
    assert "PRIVATE" not in repr(source)


def test_an_account_without_the_id_of_its_key_will_do() -> None:
    _, [asked] = obtained(GoogleToken(service_account(account(private_key_id=""))), {}, TOKEN)
    assert claims(of(asked)[1]["assertion"][0])[0] == {"alg": "RS256", "typ": "JWT"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no json", "must be the JSON of a service account"),
        ("[]", "must be the JSON of a service account"),
        ('{"type": "service_account"}', "client_email or private_key is missing"),
        (account(private_key="none"), "private_key is no RSA key in PEM"),
        (account(private_key=curve()), "private_key is no RSA key in PEM"),
    ],
)
def test_an_account_that_is_none_is_told_by_its_field(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"credentials: {why}"):
        service_account(text)


def test_the_usual_places_are_looked_through_in_order() -> None:
    named = {"GOOGLE_APPLICATION_CREDENTIALS": "/sa.json", "HOME": "/root"}
    credential, asked = obtained(GoogleToken(), named, StepResult(200, account().encode()), TOKEN)
    assert (credential, asked[0]) == (GIVEN, Path("/sa.json"))

    login = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    credential, asked = obtained(
        GoogleToken(), {"HOME": "/root"}, StepResult(200, orjson.dumps(login)), TOKEN
    )
    assert asked[0] == Path("/root/.config/gcloud/application_default_credentials.json")
    assert (credential, of(asked[1])[1]["refresh_token"]) == (GIVEN, ["r"])

    credential, asked = obtained(GoogleToken(), {"HOME": "/root"}, StepResult(404, b"no such file"), TOKEN)
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    assert (credential, of(asked[1])) == (GIVEN, (f"http://metadata.google.internal GET {path} HTTP/1.1", {}))
    assert isinstance(asked[1], WireRequest)
    assert b"metadata-flavor: Google\r\n" in asked[1].head

    _, asked = obtained(GoogleToken(), {"GCE_METADATA_HOST": "m"}, TOKEN)
    assert of(asked[0])[0].startswith("http://m ")


@pytest.mark.parametrize(
    ("environ", "told", "why"),
    [
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/x"}, StepResult(404, b"gone"), "names /x: gone"),
        (
            {"HOME": "/root"},
            StepResult(200, b'{"type": "external_account"}'),
            "'external_account' are not supported",
        ),
        ({}, StepResult(0, b"unreachable"), "this machine has no metadata server"),
        ({}, StepResult(500, b"oops"), "no token for the metadata server: status 500"),
        ({}, StepResult(400, b'{"error": "invalid_grant"}'), "invalid_grant"),
        ({}, StepResult(400, b'{"error": "x", "error_description": "too late"}'), "too late"),
        ({}, StepResult(200, b'{"access_token": "t"}'), "status 200"),
    ],
)
def test_what_cannot_be_had_says_why(environ: dict[str, str], told: StepResult, why: str) -> None:
    with pytest.raises(Unobtainable, match=why):
        obtained(GoogleToken(), environ, told)
