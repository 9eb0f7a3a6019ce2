"""What stands behind the question mark of a path, as far as a provider may see it."""

from urllib.parse import unquote_plus, unquote_to_bytes

from gateway.core.failure import BadRequest
from gateway.edge.asgi import Scope
from gateway.pipeline.identify import presented

SECRET = 8  # characters, as logs and errors have it


def query_of(scope: Scope) -> bytes:
    """Without parameters that hold the key which the request presents: it would end in the provider's logs. Raises
    BadRequest for a model of a call: LiteLLM takes it before the body's, which is the one that is checked."""
    query: bytes = scope["query_string"]
    if not query:
        return b""
    asked = query.split(b"&")
    if scope["method"] == "POST" and "model" in map(name_of, query.decode("latin-1").split("&")):
        message = "'model' stands in the query; name the model in the body alone"
        raise BadRequest(message, code="unsupported_parameter", param="model")
    key = presented(scope["gateway.head"])
    return b"&".join(one for one in asked if not _holds(one, key))


def name_of(parameter: str) -> str:
    """As a server reads it."""
    return unquote_plus(parameter.partition("=")[0])


def _holds(parameter: bytes, key: bytes) -> bool:
    """A key that is shorter than a secret stands in other words by chance."""
    plain = unquote_to_bytes(parameter)
    if len(key) < SECRET:
        return key == plain.partition(b"=")[2]
    return key in parameter or key in plain


def with_query(path: str, scope: Scope) -> str:
    """The path that a provider is asked for. Raises BadRequest."""
    query = query_of(scope)
    return f"{path}?{query.decode('latin-1')}" if query else path
