"""What stands behind the question mark of a path, as far as a provider may see it."""

from urllib.parse import unquote_to_bytes

from gateway.edge.asgi import Scope
from gateway.pipeline.identify import presented

SECRET = 8  # characters, as logs and errors have it


def query_of(scope: Scope) -> bytes:
    """Without parameters that hold the key which the request presents: it would end in the provider's logs."""
    query: bytes = scope["query_string"]
    if not query:
        return b""
    key = presented(scope["gateway.head"])
    return b"&".join(one for one in query.split(b"&") if not _holds(one, key))


def _holds(parameter: bytes, key: bytes) -> bool:
    """A key that is shorter than a secret stands in other words by chance."""
    plain = unquote_to_bytes(parameter)
    if len(key) < SECRET:
        return key == plain.partition(b"=")[2]
    return key in parameter or key in plain


def with_query(path: str, scope: Scope) -> str:
    """The path that a provider is asked for."""
    query = query_of(scope)
    return f"{path}?{query.decode('latin-1')}" if query else path
