"""Errors in the caller's dialect: the path decides which, served or not."""

from typing import Literal

import orjson

from gateway.core.failure import GatewayError

Envelope = Literal["openai", "anthropic", "gemini", "cohere"]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


GEMINI_ROOTS = ("/v1beta/models/", "/v1/models/")  # Google's SDK has changed from the one to the other
GEMINI_METHODS = frozenset(
    {"generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"}
)


def gemini_method(path: str) -> str:
    """What stands behind the colon of a model's path, "" where it is none of Gemini's methods."""
    name = path.rpartition(":")[2]
    return name if name in GEMINI_METHODS and path.startswith(GEMINI_ROOTS) else ""


def envelope_of(path: str) -> Envelope:
    """`/v1/messages…` is Anthropic's, `/v1beta/…` and methods of a model are Gemini's, rerank and the second version
    of anything Cohere's, all else OpenAI's."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return "anthropic"
    if path == "/v1/rerank" or path.startswith("/v2/"):
        return "cohere"
    return "gemini" if path.startswith("/v1beta/") or gemini_method(path) else "openai"


def render(error: GatewayError, envelope: Envelope = "openai", request_id: str = "") -> bytes:
    """The body of an error answer."""
    if envelope == "anthropic":
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
        return orjson.dumps(
            {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
        )
    if envelope == "gemini":
        status = _GEMINI_STATUSES.get(error.status, "INTERNAL")
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code}]
        return orjson.dumps(
            {
                "error": {
                    "code": error.status,
                    "message": error.message,
                    "status": status,
                    "details": details,
                }
            }
        )
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    # Cohere's errors have no code: OpenAI's object beside them tells it, as servers that took rerank over tell it.
    of_cohere = {"id": request_id, "message": error.message} if envelope == "cohere" else {}
    return orjson.dumps({**of_cohere, "error": told})
