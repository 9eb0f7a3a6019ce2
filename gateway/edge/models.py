"""Gemini's routes: `/v1beta/models/{model}:{method}` (or `/v1/…`) names what the bodies of other dialects name."""

import re
from typing import NamedTuple

from gateway.core.failure import BadRequest
from gateway.edge.asgi import Scope
from gateway.edge.inference import Inference
from gateway.edge.query import query_of
from gateway.wire.base import Dialect, Reading
from gateway.wire.registry import DIALECTS

# The name comes decoded out of the path, and goes into another one: nothing in it may end that.
_NAME = re.compile(r"[!\"$->@-~]{1,256}")
# By these names another key than that of the call would be the client's as well; keys come in headers here.
_KEPT_BACK = ("key=", "access_token=")


class Method(NamedTuple):
    """What its body is written in, and whether its answer is a stream."""

    dialect: str
    stream: bool = False


METHODS = {
    "generateContent": Method("gemini.generate"),
    "streamGenerateContent": Method("gemini.generate", stream=True),
    "countTokens": Method("gemini.count_tokens"),
    "embedContent": Method("gemini.embed"),
    "batchEmbedContents": Method("gemini.batch_embed"),
}


class ModelMethod(Inference):
    """One method of any model."""

    def _asked(self, scope: Scope, body: bytes) -> tuple[Dialect, str, Reading]:
        model, _, name = scope["path"].partition("/models/")[2].rpartition(":")
        if not _NAME.fullmatch(model):
            message = "the path must name a model, in at most 256 visible ASCII characters without ? and #"
            raise BadRequest(message, code="invalid_value", param="model")
        asked = query_of(scope).decode("latin-1").split("&")
        query = "&".join(one for one in asked if one and not one.startswith(_KEPT_BACK))
        stream, dialect = METHODS[name].stream, self._dialect
        if stream and "alt=sse" not in asked:
            dialect = DIALECTS["gemini.array"]
        reading = dialect.read(body)._replace(model=model, stream=stream)
        return dialect, f"/models/{model}:{name}" + (f"?{query}" if query else ""), reading
