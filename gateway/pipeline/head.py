"""What the head of a provider's answer says beside its status: its own id for the call, when to come back, whether a
stream follows, why it is none; and what a crossing leaves of it."""

import re
from collections.abc import Mapping

from gateway.core.exchange import Call
from gateway.upstream.client import Answer
from gateway.wire.base import EVENTS, Way
from gateway.wire.crossing import Crossing
from gateway.wire.registry import DIALECTS, STREAMED

Headers = Mapping[bytes, bytes]

# The first of these that is there: OpenAI and most · Anthropic · Azure's API Management · Azure · AWS · Mistral ·
# DeepSeek · OpenRouter · Kong before Mistral · Cloudflare before many.
_IDS = (
    b"x-request-id", b"request-id", b"apim-request-id", b"x-ms-request-id", b"x-amzn-requestid",
    b"mistral-correlation-id", b"x-ds-trace-id", b"x-generation-id", b"x-kong-request-id", b"cf-ray",
)  # fmt: skip
# A length of time as OpenAI and Groq write it (`12ms`, `1m12.5s`), or Azure in plain seconds.
_DURATION = re.compile(rb"(\d{1,6})ms|(?:(\d{1,3})h)?(?:(\d{1,3})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s?)?")
KEPT = (b"retry-after", b"retry-after-ms", b"x-should-retry")  # across dialects
_TOKEN = re.compile(rb"[A-Za-z0-9][A-Za-z0-9!#$&^_.+/-]{0,99}")  # a media type or a coding
_REMAINING, _RESET = b"x-ratelimit-remaining-", b"x-ratelimit-reset-"


def request_id(headers: Headers) -> str:
    """The provider's id for the call, "" where it gives none."""
    for name in _IDS:
        if name in headers:
            return headers[name].decode("latin-1")
    return ""


def reset_seconds(headers: Headers) -> float | None:
    """When the limits that are used up are free again, all of them; None where the head does not say."""
    spent = [name.removeprefix(_REMAINING) for name, value in headers.items()
             if name.startswith(_REMAINING) and value.strip() == b"0"]  # fmt: skip
    waits = [wait for unit in spent if (wait := seconds(headers.get(_RESET + unit, b"")))]
    return max(waits, default=None)


def seconds(duration: bytes) -> float:
    """0 for what is no length of time."""
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        return 0.0
    thousandths, hours, minutes, rest = (float(one or 0) for one in match.groups())
    return hours * 3600 + minutes * 60 + rest + thousandths / 1000


def elsewhere(headers: Headers) -> str:
    """Where a redirect leads, without the query, which may hold what is secret. "" for what is none."""
    return headers.get(b"location", b"").partition(b"?")[0].decode("latin-1")


def packing(headers: Headers) -> str:
    """How the body is packed, though that was not asked for; "" where it is not."""
    coding = _token(headers, b"content-encoding")
    return "" if coding == "identity" else coding


def misread(status: int, headers: Headers) -> str:
    """Why nothing could be made of a body, as far as its head tells."""
    if coding := packing(headers):
        return f"it answered {status} packed by {coding}, which was not asked for"
    media = _token(headers, b"content-type") or "no content-type"
    return f"it answered {status} with a body ({media}) that is no answer in its format"


def _token(headers: Headers, name: bytes) -> str:
    found = _TOKEN.match(headers.get(name, b"").strip())
    return found[0].decode().lower() if found else ""


def streams(call: Call, answer: Answer, way: Way) -> bool:
    """Whether an answer is a stream that a tap watches."""
    media = answer.header(b"content-type").lower()
    return media.startswith(EVENTS) or (call.stream and media.startswith(way.media))


def is_other(call: Call, streamed: bool) -> bool:
    """Whether an answer is of the other kind than was asked for: a stream, or whole, of which its client would read
    nothing. Of what passes as it is the provider says what it is."""
    if call.dialect == "openai.raw" or streamed is call.stream:
        return False
    return streamed or call.dialect in STREAMED


def crossed(call: Call, answer: Answer, way: Way) -> Headers:
    """The headers of an answer that is translated: what the provider says of its body is true no more."""
    streamed = call.stream if isinstance(way, Crossing) else streams(call, answer, way)
    events = streamed and answer.status < 400
    media = DIALECTS[call.dialect].media if events else b"application/json"
    kept = {name: answer.headers[name] for name in KEPT if name in answer.headers}
    return {**kept, b"content-type": media + b"; charset=utf-8" if media == EVENTS else media}
