"""Hold an answer back until the ids that it mints are remembered: a client may use them at once."""

from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.core.exchange import Call, Exchange, Reply
from gateway.edge.ownership import Ownership
from gateway.edge.references import minted, minted_in
from gateway.state.owners import BEGUN
from gateway.wire.raw import LOOK, RUN_BOUND, bound_of

Note = Callable[[list[str]], Awaitable[None]]


async def noted(reply: Reply, ownership: Ownership, exchange: Exchange, *, nested: bool = False) -> Reply:
    """`nested`: the answer may be a list of parts of an object that is the team's already."""
    call, team = exchange.call, exchange.caller.team
    provider = exchange.attempts[-1].target.provider

    async def note(ids: list[str]) -> None:
        await ownership.remember(ids, team, provider, BEGUN if only_begins(call) else call.route)

    async def end(ids: list[str]) -> None:
        if only_begins(call) and exchange.usage.reported:
            await ownership.settle(ids)

    if reply.status >= 300:
        return reply
    if isinstance(reply.body, bytes):
        await note(minted(reply.body, nested=nested))
    elif reply.keep_alive:
        reply.body = _events(reply.body, note, end)
    elif is_json(reply):
        reply.body = _json(reply.body, note, nested=nested)
    return reply


def only_begins(call: Call) -> bool:
    """Whether the call is answered before it is known what it takes."""
    return call.payload.get("background") is True or bound_of(call) == RUN_BOUND


def is_json(reply: Reply) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"application/json") for name, value in reply.headers
    )


async def _events(blocks: AsyncIterator[bytes], note: Note, end: Note) -> AsyncIterator[bytes]:
    seen: set[str] = set()
    async for block in blocks:
        new = [one for one in minted_in(block) if one not in seen]
        if new:
            await note(new)
            seen.update(new)
        yield block
    await end(list(seen))


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
