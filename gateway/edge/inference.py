"""The hot routes: read a JSON call, find its lane, serve it."""

from collections.abc import Mapping

from gateway.core.exchange import Call, Headers
from gateway.edge.body import check_head, read_body
from gateway.edge.reception import Reception, Visit
from gateway.wire.base import Dialect

# Headers of the client that mean something to a provider. Everything else stays here: credentials,
# cookies, hop-by-hop and forwarding headers above all.
_FORWARDED = (b"openai-beta", b"idempotency-key", b"x-client-request-id")
_JSON: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]


class Inference:
    """POST of one endpoint: `route` labels it, `path` is what follows `/v1`."""

    def __init__(self, reception: Reception, route: str, path: str, dialect: Dialect) -> None:
        self._reception, self._route, self._path, self._dialect = reception, route, path, dialect

    async def __call__(self, visit: Visit) -> None:
        reception, dialect = self._reception, self._dialect
        most = reception.bounds.body
        check_head(visit.head, most)
        body = await read_body(visit.receive, most)
        payload, model, stream = dialect.read(body)
        lane = visit.snapshot.lane(visit.caller, model)
        path = self._path
        query = visit.scope["query_string"]
        if query:
            path += "?" + query.decode("latin-1")
        call = Call(
            self._route, dialect.name, "POST", path, body, payload, model, stream, forwarded(visit.head)
        )
        exchange = reception.exchange(visit, call)
        exchange.shape = dialect.shape(payload, len(body))
        await reception.serve(visit, exchange, lane)


def forwarded(head: Mapping[bytes, bytes]) -> Headers:
    """The headers that go on to the provider with a JSON body."""
    found = [(name, head[name]) for name in _FORWARDED if name in head]
    return _JSON + found if found else _JSON
