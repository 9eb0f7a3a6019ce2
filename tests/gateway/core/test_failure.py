"""Refusals carry the status, the code and the headers that their caller will see."""

import pytest

from gateway.core import failure
from gateway.core.failure import (
    BadRequest,
    DatabaseAway,
    Failure,
    GatewayError,
    LimitReached,
    NeverFits,
    NoTarget,
    Overloaded,
    StoreGone,
    Unauthorized,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    WrongMethod,
)

EVERY = [one for one in vars(failure).values() if isinstance(one, type) and issubclass(one, GatewayError)]
OUTCOMES = {
    "client_error",
    "auth_denied",
    "rate_limited",
    "policy_denied",
    "upstream_error",
    "timeout",
    "overloaded",
    "gateway_error",
}


@pytest.mark.parametrize("error", EVERY)
def test_every_refusal_has_a_status_a_code_and_an_outcome_of_the_closed_set(
    error: type[GatewayError],
) -> None:
    assert 400 <= error.status < 600
    assert error.code.replace("_", "").isalpha()
    assert error.outcome in OUTCOMES
    assert (error.type == "api_error") is (error.status >= 500)


def test_what_clients_decide_by_stays_as_it_is_documented() -> None:
    assert {error.__name__: (error.status, error.code) for error in EVERY} == {
        "GatewayError": (500, "internal_error"),
        "BadRequest": (400, "invalid_request"),
        "ConflictingKeys": (400, "conflicting_keys"),
        "NeverFits": (400, "request_exceeds_limit"),
        "Unauthorized": (401, "invalid_api_key"),
        "Forbidden": (403, "model_not_allowed"),
        "NotFound": (404, "model_not_found"),
        "WrongMethod": (405, "method_not_allowed"),
        "Conflict": (409, "conflict"),
        "BodyTooLarge": (413, "request_too_large"),
        "UnsupportedEncoding": (415, "unsupported_encoding"),
        "LimitReached": (429, "rate_limit_exceeded"),
        "UpstreamFailed": (502, "upstream_error"),
        "UpstreamRefused": (502, "upstream_error"),
        "UpstreamTimeout": (504, "upstream_timeout"),
        "Overloaded": (503, "overloaded"),
        "DatabaseAway": (503, "database_unavailable"),
        "NoTarget": (503, "no_target"),
        "StoreGone": (503, "limit_store_unavailable"),
    }


def test_a_refusal_has_its_classs_code_unless_it_is_given_another() -> None:
    assert BadRequest("no").code == "invalid_request"
    told = BadRequest("no", code="invalid_value", param="n")
    assert (str(told), told.message, told.code, told.param) == ("no", "no", "invalid_value", "n")
    assert told.headers == ()


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(None, None), (0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.001, b"2"), (86_400.0, b"86400")],
)
def test_retry_after_is_whole_seconds_rounded_up_and_never_none_at_all(
    seconds: float | None, header: bytes | None
) -> None:
    told = LimitReached("no", rule="r", retry_after=seconds)
    assert told.rule == "r"
    assert told.headers == (() if header is None else ((b"retry-after", header),))


def test_a_claim_that_never_fits_names_its_rule_and_no_time() -> None:
    told = NeverFits("no", rule="r")
    assert (told.status, told.rule, told.headers) == (400, "r", ())


def test_a_method_that_a_path_does_not_take_is_told_with_those_that_it_takes() -> None:
    told = WrongMethod("/v1/files", "PUT", ("GET", "POST"))
    assert told.message == "/v1/files does not take PUT; it takes GET, POST"
    assert told.headers == ((b"allow", b"GET, POST"),)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (Unauthorized("no"), {b"x-should-retry": b"false"}),
        (UpstreamFailed("no", Failure.BROKEN), {b"x-should-retry": b"false"}),
        (UpstreamTimeout("no", Failure.TIMED_OUT), {b"x-should-retry": b"false"}),
        (NoTarget("no"), {b"x-should-retry": b"false", b"retry-after": b"1"}),
        (NoTarget("no", retry_after=19.2), {b"x-should-retry": b"false", b"retry-after": b"20"}),
        (Overloaded("no"), {b"retry-after": b"1"}),
        (StoreGone("no", rule="r"), {b"retry-after": b"1"}),
    ],
)
def test_what_cannot_change_or_was_tried_already_no_sdk_tries_again(
    error: GatewayError, headers: dict[bytes, bytes]
) -> None:
    assert dict(error.headers) == headers


def test_a_database_that_is_away_is_told_with_what_to_see_to() -> None:
    error = DatabaseAway("disk I/O error")
    assert (error.status, error.code) == (503, "database_unavailable")
    assert "(disk I/O error); see that it runs and has room" in error.message


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (400, "invalid_request_error", "client_error"),
        (429, "rate_limit_error", "upstream_error"),
        (500, "api_error", "upstream_error"),
        (503, "api_error", "upstream_error"),
    ],
)
def test_what_a_provider_refused_keeps_its_status_and_the_headers_that_stay_true(
    status: int, kind: str, outcome: str
) -> None:
    told = UpstreamRefused("no", Failure.REJECTED, status, [(b"retry-after", b"7")])
    assert (told.status, told.type, told.outcome) == (status, kind, outcome)
    assert told.headers == ((b"retry-after", b"7"),)
