"""Events of a Responses stream that are made here, and how one goes on that was begun elsewhere."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.failure import GatewayError
from gateway.wire import sse
from gateway.wire.fields import is_count, loaded
from gateway.wire.responses.resource import failed
from gateway.wire.sides import Json


def tell(name: str, number: int, /, **members: Any) -> bytes:
    told = {"type": name, "sequence_number": number, **members}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(told))


def failing(error: Mapping[str, Any], response: Json, number: int) -> bytes:
    """The two events that end a stream which fails, as OpenAI's servers tell them: an `error`, at which their SDKs
    raise, and the response, which is all that Codex looks at (codex-rs/codex-api/src/sse/responses.rs). `error` is
    OpenAI's error object; `number` is that of the first event."""
    said = {name: error.get(name) for name in ("type", "code", "message", "param")}
    ended = failed(response, str(said["message"] or ""), throttled=said["type"] == "rate_limit_error")
    # The members of the object stand beside it, too: the API's reference has them there.
    beside = {name: said[name] for name in ("code", "message", "param")}
    told = tell("error", number, **beside, error=said)
    return told + tell("response.failed", number + 1, response=ended)


def as_error(error: GatewayError) -> Json:
    """OpenAI's error object."""
    return {"type": error.type, "code": error.code, "message": error.message, "param": error.param}


def going_on(first: bytes, last: bytes) -> tuple[Json, int]:
    """(the response, the number of the next event) of a stream that others tell, by the first and the last block that
    came. Not every server tells either."""
    begun = (loaded(sse.data(one)).get("response") for one in sse.events(first))
    numbers = (loaded(sse.data(one)).get("sequence_number") for one in sse.events(last))
    response = next((one for one in begun if isinstance(one, dict)), {"object": "response", "output": []})
    return response, max((one + 1 for one in numbers if is_count(one)), default=0)
