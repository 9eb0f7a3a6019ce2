"""Gemini's routes: `/v1beta/models/{model}:{method}` (or `/v1/…`) names what the bodies of other dialects name."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_plus

from gateway.core.failure import BadRequest
from gateway.edge.asgi import Scope
from gateway.edge.inference import Inference
from gateway.edge.query import name_of, query_of
from gateway.wire.base import Dialect, Reading
from gateway.wire.registry import DIALECTS

# The name comes decoded out of the path, and goes into another one: nothing in it may end that.
_NAME = re.compile(r"[!\"$->@-~]{1,256}")
# By these names another key than that of the call would be the client's as well; keys come in headers here.
_KEPT_BACK = frozenset({"key", "access_token", "oauth_token"})
# Google's for the form of an answer: one without its usage could not be accounted for ("Standard Query Parameters").
_FORMS = frozenset({"fields", "callback"})
_EVENTS, _JSON = "sse", "json"  # what `alt` may ask for


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
        """Raises BadRequest."""
        model, _, name = scope["path"].partition("/models/")[2].rpartition(":")
        if not _NAME.fullmatch(model):
            message = "the path must name a model, in at most 256 visible ASCII characters without ? and #"
            raise BadRequest(message, code="invalid_value", param="model")
        asked = list(_parameters(query_of(scope)))
        query = "&".join(asked)
        stream, dialect = METHODS[name].stream, self._dialect
        if stream and _EVENTS not in map(_alt, asked):
            dialect = DIALECTS["gemini.array"]
        reading = dialect.read(body)._replace(model=model, stream=stream)
        return dialect, f"/models/{model}:{name}" + (f"?{query}" if query else ""), reading


def _parameters(query: bytes) -> Iterator[str]:
    """Those that go on. Raises BadRequest for one that changes what an answer tells."""
    for one in query.decode("latin-1").split("&"):
        name = name_of(one).lstrip("$")
        if name in _FORMS or (name == "alt" and _alt(one) not in (_EVENTS, _JSON)):
            message = f"'{name}' would change the form of the answer; leave it out of the query"
            raise BadRequest(message, code="unsupported_parameter", param=name)
        if name and name not in _KEPT_BACK:
            yield one


def _alt(parameter: str) -> str:
    """The form that a parameter asks for, without what may follow it (`$alt=json;enum-encoding=int`); "" for others."""
    name, _, value = unquote_plus(parameter).partition("=")
    return value.partition(";")[0] if name.lstrip("$") == "alt" else ""
