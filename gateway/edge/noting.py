"""Hold an answer back until the ids that it mints are remembered, and what it took is settled: a client may use the ids
at once, and leave as soon as it has read all."""

from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.core.exchange import Call, Exchange, Reply
from gateway.core.failure import DatabaseAway
from gateway.edge.ownership import Ownership
from gateway.edge.references import minted, minted_in
from gateway.wire.raw import LOOK, RUN_BOUND, bound_of

Note = Callable[[list[str]], Awaitable[None]]
Settle = Callable[[], Awaitable[None]]


async def noted(reply: Reply, ownership: Ownership, exchange: Exchange, *, nested: bool = False) -> Reply:
    """`nested`: the answer may be a list of parts of an object that is the team's already."""
    call, team = exchange.call, exchange.caller.team
    provider = exchange.attempts[-1].target.provider
    charged = exchange.shape.input_tokens if only_begins(call) else None  # as `serve` estimates it
    known: list[str] = []

    async def note(ids: list[str]) -> None:
        try:
            await ownership.remember(ids, team, provider, call.route, charged)
        except DatabaseAway:
            if charged is not None or call.dialect == "openai.raw":
                raise  # an object that nobody could come back to
            return  # the answer is what was asked for; by its id nobody will find it
        known.extend(ids)

    async def settle() -> None:
        """What it took is told by this very answer: there is no rest to be charged."""
        await ownership.settle(known)

    if reply.status >= 300:
        return reply
    if isinstance(reply.body, bytes):
        await note(minted(reply.body, nested=nested))
    elif reply.keep_alive:
        reply.body = _events(reply.body, note)
    elif is_json(reply):
        reply.body = await _begun(_json(reply.body, note, nested=nested))
    return await settled(reply, exchange, settle) if only_begins(call) else reply


async def settled(reply: Reply, exchange: Exchange, settle: Settle) -> Reply:
    """The reply of a call whose usage is settled, once, before what tells it goes out."""
    if not isinstance(reply.body, bytes):
        reply.body = _settled(reply.body, exchange, settle)
    elif exchange.usage.reported:
        await settle()
    return reply


def only_begins(call: Call) -> bool:
    """Whether the call is answered before it is known what it takes."""
    return call.payload.get("background") is True or bound_of(call) == RUN_BOUND


def is_json(reply: Reply) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"application/json") for name, value in reply.headers
    )


async def _settled(blocks: AsyncIterator[bytes], exchange: Exchange, settle: Settle) -> AsyncIterator[bytes]:
    waits = True
    async for block in blocks:
        if waits and exchange.usage.reported:
            waits = False
            await settle()
        yield block
    if waits and exchange.usage.reported:  # an answer too large to be held
        await settle()


async def _events(blocks: AsyncIterator[bytes], note: Note) -> AsyncIterator[bytes]:
    seen: set[str] = set()
    async for block in blocks:
        new = [one for one in minted_in(block) if one not in seen]
        if new:
            await note(new)
            seen.update(new)
        yield block


async def _begun(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, its first block made: what goes wrong until then can still be told in a head of its own."""
    first = await anext(blocks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for block in blocks:
            yield block

    return all_of_them()


async def _json(blocks: AsyncIterator[bytes], note: Note, *, nested: bool) -> AsyncIterator[bytes]:
    """An answer that is larger than what is looked at says its id at its beginning."""
    held: bytearray | None = bytearray()
    async for block in blocks:
        if held is None:
            yield block
            continue
        held += block
        if len(held) > LOOK:
            await note(minted(bytes(held), nested=nested))
            yield bytes(held)
            held = None
    if held:
        await note(minted(bytes(held), nested=nested))
        yield bytes(held)
