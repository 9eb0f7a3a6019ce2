"""The HTTP face: OpenAI's routes over a unix socket or TCP, raw ASGI under uvicorn. Torch-free but for the
engine that it is given."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from local_backend.client import EngineThread, Stream
from local_backend.detok import Detokenizer
from local_backend.template import BadConversation, ChatTemplate
from local_backend.tokenizer import Tokenizer
from local_backend.types import Finish, Full, Sampling
from local_backend.wire import Refused, Request, Usage, Words, read

MOST_BODY = 32 << 20
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class Server:
    """One ASGI application for one model. `thread` may still be loading."""

    def __init__(
        self,
        thread: EngineThread,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        names: list[str],
        temperature: float,
    ) -> None:
        self._thread, self._tokenizer, self._template, self._names = thread, tokenizer, template, names
        self._temperature = temperature
        self._created = int(time.time())
        self.draining = False
        self._routes: dict[tuple[str, str], Callable[[Scope, Receive, Send], Awaitable[None]]] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._text,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("GET", "/v1/models"): self._models,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        route = self._routes.get((scope["method"], path))
        if route is None and scope["method"] == "GET" and path.startswith("/v1/models/"):
            route = self._model
        try:
            if route is None:
                raise Refused(
                    f"there is no {scope['method']} {path} here", status=404, code="route_not_found"
                )
            await route(scope, receive, send)
        except Refused as error:
            await _answer(send, error.status, error.body())
        except Full as full:
            refusal = Refused(f"the engine is full: {full}", status=503, code="overloaded")
            await _answer(send, 503, refusal.body(), [(b"retry-after", b"%d" % full.retry_after)])
        except _Left:
            return

    # the hot routes

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._complete(receive, send, chat=True)

    async def _text(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._complete(receive, send, chat=False)

    async def _complete(self, receive: Receive, send: Send, *, chat: bool) -> None:
        most = self._engine_length()
        request = read(await _body(receive), chat=chat, default_tokens=most, temperature=self._temperature)
        prompts = await asyncio.to_thread(self._ids, request)
        for ids in prompts:
            if len(ids) >= most:
                raise Refused(
                    f"the prompt has {len(ids)} tokens and this model takes {most - 1} at most",
                    param="messages" if chat else "prompt",
                    code="context_length_exceeded",
                )
        streams = [
            self._thread.submit(ids, _of_choice(request, choice), request.salt, request.priority)
            for ids in prompts
            for choice in range(request.choices)
        ]
        watcher = asyncio.ensure_future(_left(receive))
        call = asyncio.ensure_future(self._reply(request, prompts, streams, send))
        try:
            await asyncio.wait({watcher, call}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise _Left
            call.result()
        finally:
            watcher.cancel()
            call.cancel()
            for stream in streams:
                self._thread.abort(stream)

    async def _reply(
        self, request: Request, prompts: list[list[int]], streams: list[Stream], send: Send
    ) -> None:
        prefix = "chatcmpl-" if request.chat else "cmpl-"
        words = Words(request, prefix + uuid.uuid4().hex[:24], int(time.time()))
        usage = Usage(prompt=sum(map(len, prompts)))
        echoes = [
            self._tokenizer.decode(ids) if request.echo else ""
            for ids in prompts
            for _ in range(request.choices)
        ]
        pieces = _merged([self._pieces(stream, request, usage) for stream in streams])
        first = await anext(pieces)  # whatever is wrong with the call shows before its status goes out
        if not request.stream:
            texts, finishes = list(echoes), [""] * len(streams)
            async for index, text, finish in _after(first, pieces):
                texts[index] += text
                finishes[index] = finish or finishes[index]
            await _answer(send, 200, words.whole(list(zip(texts, finishes, strict=True)), usage))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [_EVENTS]})
        opening = b"".join(words.opening(index) for index in range(len(streams)))
        opening += b"".join(words.piece(index, text) for index, text in enumerate(echoes) if text)
        await _chunk(send, opening)
        async for index, text, finish in _after(first, pieces):
            block = words.piece(index, text) if text else b""
            await _chunk(send, block + (words.closing(index, finish) if finish else b""))
        await send({"type": "http.response.body", "body": words.end(usage)})

    async def _pieces(self, stream: Stream, request: Request, usage: Usage) -> AsyncIterator[tuple[str, str]]:
        """(text, finish reason) of one choice; the last has a reason."""
        detok = Detokenizer(self._tokenizer.fast, request.stops)
        while True:
            delta = await stream.next()
            usage.completion += len(delta.ids)
            usage.cached = max(usage.cached, delta.cached)
            text = detok.feed(delta.ids)
            if detok.stopped:
                self._thread.abort(stream)
                yield text, Finish.STOP.value
                return
            if delta.finish is not None:
                rest, cut = detok.end()
                yield text + rest, Finish.STOP.value if cut else delta.finish.value
                return
            if text or not delta.ids:
                yield text, ""

    def _ids(self, request: Request) -> list[list[int]]:
        if not request.chat:
            return [
                self._tokenizer.encode(one, special=True) if isinstance(one, str) else one
                for one in request.prompts
            ]
        if self._template is None:
            raise Refused(
                "this model has no chat template; use /v1/completions", code="unsupported_parameter"
            )
        try:
            text = self._template.render(
                request.messages,
                add_generation_prompt=request.add_generation_prompt,
                **request.template_arguments,
            )
        except BadConversation as error:
            raise Refused(str(error), param="messages", code="invalid_value") from None
        return [self._tokenizer.encode(text, special=False)]

    # the rest

    async def _embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused("this model offers no embeddings", param="model", code="model_not_supported")

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = [self._described(name) for name in self._names]
        await _answer(send, 200, orjson.dumps({"object": "list", "data": data}))

    async def _model(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/v1/models/")
        if name not in self._names:
            raise Refused(f"there is no model {name!r} here", status=404, code="model_not_found")
        await _answer(send, 200, orjson.dumps(self._described(name)))

    def _described(self, name: str) -> dict[str, Any]:
        length = self._thread.engine.max_len if self._thread.engine else None
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "local_backend",
            "max_model_len": length,
        }

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._engine_length()
        payload = orjson.loads(await _body(receive))
        chat = "messages" in payload
        request = read(
            orjson.dumps(payload if chat else {"prompt": payload.get("prompt", "")}),
            chat=chat,
            default_tokens=1,
        )
        ids = (await asyncio.to_thread(self._ids, request))[0]
        await _answer(send, 200, orjson.dumps({"tokens": ids, "count": len(ids), "max_model_len": most}))

    async def _detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        payload = orjson.loads(await _body(receive))
        tokens = payload.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(one, int) for one in tokens):
            raise Refused("'tokens' must be a list of token ids", param="tokens", code="invalid_value")
        await _answer(send, 200, orjson.dumps({"prompt": self._tokenizer.decode(tokens)}))

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        thread = self._thread
        reason = (
            "draining"
            if self.draining
            else "failed"
            if thread.failed
            else ""
            if thread.ready.is_set()
            else "loading"
        )
        await _answer(send, 503 if reason else 200, orjson.dumps({"status": reason or "ready"}))

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._engine_length()
        assert self._thread.engine is not None
        plain = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        await _answer(send, 200, self._thread.engine.metrics.render(), kind=plain)

    def _engine_length(self) -> int:
        """The longest sequence in tokens. Raises Refused while the engine is not there."""
        engine = self._thread.engine
        if engine is None or self._thread.failed is not None or self.draining:
            raise Refused("the engine is not ready; see /health", status=503, code="overloaded")
        return engine.max_len


class _Left(Exception):
    """The client has gone: nobody is to be answered."""


def _of_choice(request: Request, choice: int) -> Sampling:
    """Each choice draws with a seed of its own."""
    sampling = request.sampling
    return replace(sampling, seed=sampling.seed + choice * 0x9E3779B9) if choice else sampling


async def _merged(sources: list[AsyncIterator[tuple[str, str]]]) -> AsyncIterator[tuple[int, str, str]]:
    """All choices' pieces as they come: (choice, text, finish reason)."""
    if len(sources) == 1:
        async for text, finish in sources[0]:
            yield 0, text, finish
        return
    came: asyncio.Queue[tuple[int, str, str] | Exception] = asyncio.Queue()

    async def pump(index: int, source: AsyncIterator[tuple[str, str]]) -> None:
        try:
            async for text, finish in source:
                came.put_nowait((index, text, finish))
        except Exception as error:  # told to the reader, who raises it
            came.put_nowait(error)

    tasks = [asyncio.ensure_future(pump(index, source)) for index, source in enumerate(sources)]
    try:
        open_choices = len(sources)
        while open_choices:
            piece = await came.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
            open_choices -= bool(piece[2])
    finally:
        for task in tasks:
            task.cancel()


async def _after(
    first: tuple[int, str, str], rest: AsyncIterator[tuple[int, str, str]]
) -> AsyncIterator[tuple[int, str, str]]:
    yield first
    async for piece in rest:
        yield piece


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Left
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise Refused(f"the body is larger than {MOST_BODY} bytes", status=413, code="request_too_large")
        if not message.get("more_body"):
            return body


async def _left(receive: Receive) -> None:
    """Returns when the client goes."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    more: list[tuple[bytes, bytes]] | None = None,
    kind: tuple[bytes, bytes] = _JSON,
) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body)), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _chunk(send: Send, block: bytes) -> None:
    if block:
        await send({"type": "http.response.body", "body": block, "more_body": True})
