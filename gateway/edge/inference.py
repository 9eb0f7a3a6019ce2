"""The hot routes: read a JSON call, find its lane, serve it."""

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.core.exchange import Call, Exchange, Headers, Reply
from gateway.core.head import Head
from gateway.edge.asgi import Scope
from gateway.edge.body import too_large
from gateway.edge.noting import noted
from gateway.edge.other_models import check_other_models
from gateway.edge.ownership import Ownership, held_by
from gateway.edge.query import with_query
from gateway.edge.reception import Reception, Visit
from gateway.edge.references import used
from gateway.pipeline.serve import Deliver
from gateway.wire.base import Dialect, Reading

# Headers of the client that mean something to a provider. Everything else stays here: credentials,
# cookies, hop-by-hop and forwarding headers above all.
_FORWARDED = (b"openai-beta", b"x-client-request-id", b"anthropic-version", b"anthropic-beta")
# Whose bodies hold the client's own texts and facts: what is called file_id there is none.
_FREE = ("rerank",)
_RUNS_CODE = b"code_execution"  # the tools of Anthropic's that leave a container and files
# What was read as JSON goes on as JSON, whatever the client called it.
JSON: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]


class Inference:
    """POST of one endpoint: `route` labels it, `path` is what follows the version."""

    def __init__(
        self, reception: Reception, ownership: Ownership, route: str, path: str, dialect: Dialect
    ) -> None:
        self._reception, self._ownership = reception, ownership
        self._route, self._path, self._dialect = route, path, dialect

    async def __call__(self, visit: Visit) -> None:
        reception = self._reception
        body: bytes | None = visit.scope.get("gateway.body")
        if body is None:
            body = await reception.read(visit)
        elif len(body) > reception.bounds.body:
            raise too_large(reception.bounds.body)
        dialect, path, (payload, model, stream) = self._asked(visit.scope, body)
        lane = visit.snapshot.lane(visit.caller, model)
        check_other_models(payload, lane.team)
        if self._route not in _FREE and (objects := used(body, payload, dialect.name)):
            lane = held_by(lane, await self._ownership.provider_of(objects, visit.caller.team))
        forward = visit.head.forward or _forwarded(visit.head, visit.caller.team)
        call = Call(self._route, dialect.name, "POST", path, body, payload, model, stream, forward)
        exchange = reception.exchange(visit, call)
        exchange.shape = dialect.shape(payload, len(body))
        deliver = self._noting(visit, exchange) if self._mints(payload, body) else None
        await reception.serve(visit, exchange, lane, deliver)

    def _asked(self, scope: Scope, body: bytes) -> tuple[Dialect, str, Reading]:
        """In which dialect, under which path, what. Raises BadRequest."""
        return self._dialect, with_query(self._path, scope), self._dialect.read(body)

    def _mints(self, payload: Mapping[str, Any], body: bytes) -> bool:
        """Whether the answer brings ids into the world that calls may name: of what the provider is to keep, of what
        the model says aloud, of what its code makes."""
        if payload.get("store") is True or payload.get("audio") is not None:
            return True
        return self._route == "messages" and body.find(_RUNS_CODE) >= 0

    def _noting(self, visit: Visit, exchange: Exchange) -> Deliver:
        """The ids of such an answer are the team's."""

        async def deliver(reply: Reply) -> None:
            await visit.writer.deliver(await noted(reply, self._ownership, exchange))

        return deliver


def _forwarded(head: Head, team: str) -> Headers:
    """The headers that go on with a JSON body; noted beside the head, unless they depend on the team."""
    found = JSON + forwarded(head, team)
    if b"idempotency-key" not in head:
        head.forward = found
    return found


def forwarded(head: Mapping[bytes, bytes], team: str) -> list[tuple[bytes, bytes]]:
    """The headers that go on to the provider. Teams share its account, so their idempotency keys are kept
    apart."""
    found = [(name, head[name]) for name in _FORWARDED if name in head]
    if key := head.get(b"idempotency-key"):
        found.append((b"idempotency-key", hashlib.sha256(team.encode() + b"\0" + key).hexdigest().encode()))
    return found
