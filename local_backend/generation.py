"""A call that generates: prompts to token ids, choices out of the engine, parts to the client. Torch-free."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from local_backend.answer import Answer
from local_backend.asgi import Left, Receive, Send, answer, chunk, left, refusal, start_events
from local_backend.choice import Choice
from local_backend.client import EngineClient, Stream
from local_backend.fields import Refused
from local_backend.part import Part, Usage
from local_backend.preparation import Preparation, Prepared
from local_backend.types import Finish, Job
from local_backend.wire import Request


class Generation:
    """What all calls of one model share."""

    def __init__(self, engine: EngineClient, preparation: Preparation, now: Callable[[], float]) -> None:
        self._engine, self._preparation, self._now = engine, preparation, now
        self._tokenizer = preparation.tokenizer

    async def serve(self, request: Request, longest: int, receive: Receive, send: Send) -> None:
        """`longest` is of prompt and answer together, in tokens. Raises Refused, Full, BadJob, EngineGone,
        Left."""
        watcher = asyncio.ensure_future(left(receive))
        call = asyncio.ensure_future(self._call(request, longest, send))
        try:
            await asyncio.wait({watcher, call}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise Left
            call.result()
        finally:
            watcher.cancel()
            call.cancel()

    async def _call(self, request: Request, longest: int, send: Send) -> None:
        prepared = await self._preparation.prepare(request, longest)
        if not all(prepared.prompts):
            raise _empty(request)
        sampling = replace(request.sampling, grammar=prepared.grammar)
        jobs = [
            Job(ids, sampling, request.choices, request.salt, request.priority) for ids in prepared.prompts
        ]
        turns = Turns(self._engine, jobs)
        try:
            await self._reply(request, prepared, turns, send)
        finally:
            turns.end()

    async def _reply(self, request: Request, prepared: Prepared, turns: "Turns", send: Send) -> None:
        prefix = "chatcmpl-" if request.chat else "cmpl-"
        told = Answer(request, self._tokenizer, prefix + uuid.uuid4().hex[:24], int(self._now()))
        usages = [Usage(prompt=len(ids)) for ids in prepared.prompts]
        wholes = [Part(echoed) for echoed in self._echoed(request, prepared) for _ in range(request.choices)]
        sources = []
        for index, whole in enumerate(wholes):
            prompt, number = divmod(index, request.choices)
            choice = self._choice(request, prepared, prompt, usages[prompt], len(whole.content))
            sources.append(self._parts(turns, prompt, number, choice))
        parts = _together(sources)
        first = await anext(parts)  # whatever is wrong with the call shows before its status goes out
        if not request.stream:
            async for index, part in _after(first, parts):
                wholes[index].add(part)
            await answer(send, 200, told.whole(wholes, sum(usages, Usage())))
            return
        await start_events(send)
        opening = b"".join(told.opening(index) for index in range(len(wholes)))
        await chunk(send, opening + b"".join(told.piece(index, one) for index, one in enumerate(wholes)))
        try:
            async for index, part in _after(first, parts):
                await chunk(send, told.piece(index, part))
            end = told.end(sum(usages, Usage()))
        except Exception as trouble:  # the status is out: an event says that this is no end
            end = b"data: " + refusal(trouble).body() + b"\n\n"
        await chunk(send, end, more=False)

    def _echoed(self, request: Request, prepared: Prepared) -> list[str]:
        """What stands before the answers: a text as it came, without what the tokenizer has put around it."""
        if not request.echo:
            return [""] * len(prepared.prompts)
        return [one if isinstance(one, str) else self._tokenizer.decode(one) for one in request.prompts]

    def _choice(self, request: Request, prepared: Prepared, prompt: int, usage: Usage, offset: int) -> Choice:
        ear = self._preparation.voice.ear(prepared.stance, request.tools)
        begun = self._begun(request, prepared.prompts[prompt])
        return Choice(request, self._tokenizer, usage, ear, offset, begun=begun)

    def _begun(self, request: Request, prompt: list[int]) -> bool:
        """Whether the answer goes on with a text: a space at its beginning is part of it then."""
        if request.chat:
            continues = request.rendering.continue_final_message
            return continues and bool(request.messages[-1]["content"])
        return any(token not in self._tokenizer.specials for token in prompt)

    async def _parts(self, turns: "Turns", prompt: int, number: int, choice: Choice) -> AsyncIterator[Part]:
        """What came while the client was behind is one part: a slow reader gets fewer events, and all of the text."""
        stream = await turns.stream(prompt, number)
        while not choice.done:
            delta = await stream.next()
            turns.begun(prompt)
            if delta.finish is Finish.ERROR:
                raise Refused("the engine could not begin this answer", status=500)
            part = choice.feed(delta)
            for later in stream.waiting():
                if choice.done:
                    break
                part.add(choice.feed(later))
            yield part
        self._engine.abort(stream)


class Turns:
    """The prompts of one call on their way to the engine. One that has begun to be answered makes room for the next: a
    call may have more than can wait there, and leaves others half of the room."""

    def __init__(self, engine: EngineClient, jobs: list[Job]) -> None:
        """Raises EngineGone."""
        self._engine, self._jobs = engine, jobs
        loop = asyncio.get_running_loop()
        self._streams: list[asyncio.Future[list[Stream]]] = [loop.create_future() for _ in jobs]
        self._next = 0
        self._waiting = set[int]()
        for _ in range(max(1, engine.most_waiting // 2)):
            self._submit()

    async def stream(self, prompt: int, choice: int) -> Stream:
        """Once it is with the engine."""
        return (await self._streams[prompt])[choice]

    def begun(self, prompt: int) -> None:
        """It waits no more. Raises EngineGone."""
        if prompt in self._waiting:
            self._waiting.remove(prompt)
            self._submit()

    def end(self) -> None:
        """Nobody reads any of the streams any more."""
        for streams in self._streams[: self._next]:
            for stream in streams.result():
                self._engine.abort(stream)

    def _submit(self) -> None:
        if self._next < len(self._jobs):
            self._streams[self._next].set_result(self._engine.submit(self._jobs[self._next]))
            self._waiting.add(self._next)
            self._next += 1


def _empty(request: Request) -> Refused:
    name = "messages" if request.chat else "prompt"
    return Refused(f"'{name}' has no tokens; the model needs one at least", param=name, code="invalid_value")


async def _together(sources: list[AsyncIterator[Part]]) -> AsyncIterator[tuple[int, Part]]:
    """All choices' parts as they come: (choice, part)."""
    if len(sources) == 1:
        async for part in sources[0]:
            yield 0, part
        return
    came: asyncio.Queue[tuple[int, Part] | Exception] = asyncio.Queue()

    async def pump(index: int, source: AsyncIterator[Part]) -> None:
        try:
            async for part in source:
                came.put_nowait((index, part))
        except Exception as error:  # told to the reader, who raises it
            came.put_nowait(error)

    tasks = [asyncio.ensure_future(pump(index, source)) for index, source in enumerate(sources)]
    try:
        unfinished = len(sources)
        while unfinished:
            piece = await came.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
            unfinished -= bool(piece[1].finish)
    finally:
        for task in tasks:
            task.cancel()


async def _after(
    first: tuple[int, Part], rest: AsyncIterator[tuple[int, Part]]
) -> AsyncIterator[tuple[int, Part]]:
    yield first
    async for piece in rest:
        yield piece
