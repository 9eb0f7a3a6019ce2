"""Everything that can go wrong, named once; the edge turns these into the caller's dialect.

GatewayError
├── BadRequest 400            the call itself is wrong (code names how)
│   ├── ConflictingKeys       two different keys came
│   └── NeverFits             a claim larger than the rule's whole bucket
├── Unauthorized 401          missing_api_key | invalid_api_key
├── Forbidden 403             model_not_allowed, route_not_allowed, data_not_allowed, denied by an access condition
├── NotFound 404              model_not_found, route_not_found, object_not_found
├── WrongMethod 405
├── Conflict 409              it cannot be done as things stand: a name is taken, a key has expired
├── BodyTooLarge 413
├── UnsupportedEncoding 415
├── LimitReached 429          rate_limit_exceeded, with retry-after
├── UpstreamFailed 502        every target that was tried failed
│   ├── UpstreamRefused       the last one's own status, of which it gave no reason that can be shown as it is
│   └── UpstreamTimeout 504
├── Overloaded 503            too many calls in flight, no descriptor left, or draining
│   └── DatabaseAway          database_unavailable
├── NoTarget 503              no target of the model can be tried now
└── StoreGone 503             a rule says refuse while its store is away
"""

from collections.abc import Sequence
from enum import Enum
from math import ceil

from gateway.core.claim import Standing


class Failure(Enum):
    """Why an attempt at a target failed, as far as the next step is concerned."""

    THROTTLED = "throttled"  # 429
    OVERLOADED = "overloaded"  # 503, 529
    UNREACHABLE = "connect"  # no connection, or closed before a response byte
    TIMED_OUT = "timeout"  # 408, 504, 524, or our own clock
    UNAUTHORIZED = "unauthorized"  # 401, 402, 403: the gateway's own credential or account
    REJECTED = "rejected"  # 400, 404, 409, 413, 422, content filter: the call is at fault
    BROKEN = "broken"  # any other 5xx, bad framing, a stream cut before its first event


class GatewayError(Exception):
    """A refusal with the status and code its caller will see."""

    status = 500
    code = "internal_error"
    type = "api_error"
    outcome = "gateway_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers this refusal adds to its answer, names in lower case."""
        return ()


class BadRequest(GatewayError):
    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    outcome = "client_error"


class ConflictingKeys(BadRequest):
    code = "conflicting_keys"


class NeverFits(BadRequest):
    code = "request_exceeds_limit"

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class Unauthorized(GatewayError):
    """A key that is wrong stays wrong: Claude Code, unless told so, tries it for minutes and says nothing."""

    status = 401
    code = "invalid_api_key"
    type = "invalid_request_error"
    outcome = "auth_denied"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"x-should-retry", b"false"),)


class Forbidden(GatewayError):
    status = 403
    code = "model_not_allowed"
    type = "invalid_request_error"
    outcome = "policy_denied"


class NotFound(GatewayError):
    status = 404
    code = "model_not_found"
    type = "invalid_request_error"
    outcome = "client_error"


class WrongMethod(GatewayError):
    """`taken` are the methods that the path serves."""

    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"
    outcome = "client_error"

    def __init__(self, path: str, method: str, taken: Sequence[str]) -> None:
        self._taken = ", ".join(taken)
        super().__init__(f"{path} does not take {method}; it takes {self._taken}")

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"allow", self._taken.encode()),)


class Conflict(GatewayError):
    status = 409
    code = "conflict"
    type = "invalid_request_error"
    outcome = "client_error"


class BodyTooLarge(GatewayError):
    status = 413
    code = "request_too_large"
    type = "invalid_request_error"
    outcome = "client_error"


class UnsupportedEncoding(GatewayError):
    status = 415
    code = "unsupported_encoding"
    type = "invalid_request_error"
    outcome = "client_error"


class LimitReached(GatewayError):
    """A rule has no room; `retry_after` is in seconds, None where waiting frees nothing in known time. `standing` is
    how that rule stands, with nothing taken."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    outcome = "rate_limited"

    def __init__(
        self, message: str, *, rule: str, retry_after: float | None = None, standing: Standing | None = None
    ) -> None:
        super().__init__(message)
        self.rule = rule
        self.retry_after = retry_after
        self.standing = standing

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        if self.retry_after is None:
            return ()
        return (_retry_after(self.retry_after),)


class UpstreamFailed(GatewayError):
    """No target answered; what the last one said is summed up in `failure`."""

    status = 502
    code = "upstream_error"
    outcome = "upstream_error"

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        # Retries and fallbacks are spent: an SDK that tries again only multiplies an outage.
        return ((b"x-should-retry", b"false"),)


class UpstreamRefused(UpstreamFailed):
    """`kept` are headers of the provider's answer that stay true."""

    def __init__(
        self, message: str, failure: Failure, status: int, kept: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(message, failure)
        self.status, self._kept = status, tuple(kept)
        if status < 500:
            self.type = "rate_limit_error" if status == 429 else "invalid_request_error"
        if status < 429:
            self.outcome = "client_error"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return self._kept


class UpstreamTimeout(UpstreamFailed):
    status = 504
    code = "upstream_timeout"
    outcome = "timeout"


class Overloaded(GatewayError):
    status = 503
    code = "overloaded"
    outcome = "overloaded"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"retry-after", b"1"),)


class DatabaseAway(Overloaded):
    code = "database_unavailable"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the database cannot be read or written ({why}); see that it runs and has room, then ask again"
        )


class NoTarget(GatewayError):
    """`retry_after` is in seconds: when the first of them can be tried again, as far as that is known."""

    status = 503
    code = "no_target"
    outcome = "upstream_error"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return (_retry_after(self.retry_after), (b"x-should-retry", b"false"))


class StoreGone(GatewayError):
    """The store of a rule is away and the rule says refuse."""

    status = 503
    code = "limit_store_unavailable"
    outcome = "rate_limited"

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"retry-after", b"1"),)


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    """In whole seconds, rounded up."""
    return (b"retry-after", b"%d" % max(1, ceil(seconds)))
