"""The HTTP face: OpenAI's routes over a unix socket or TCP, raw ASGI under uvicorn. Torch-free."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from local_backend.asgi import Left, Receive, Route, Scope, Send, answer, body_of, refusal
from local_backend.client import EngineClient
from local_backend.embedding import Embedding
from local_backend.fields import Refused, payload_of
from local_backend.generation import Generation
from local_backend.pooling import Pooling
from local_backend.preparation import Preparation
from local_backend.types import EngineGone, Full
from local_backend.wire import read, read_embedding, read_tokens

_PLAIN = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Server:
    """One ASGI application for one model. `engine` may still be loading."""

    def __init__(
        self,
        engine: EngineClient,
        preparation: Preparation,
        names: list[str],
        temperature: float,
        pooling: Pooling | None = None,
    ) -> None:
        self._engine, self._preparation, self._names = engine, preparation, names
        self._temperature = temperature
        self._generation = Generation(engine, preparation, time.time)
        self._embedding = Embedding(engine, preparation.tokenizer, pooling)
        self._created = int(time.time())
        self.draining = False
        self.idle = asyncio.Event()  # no call of the engine's is in flight
        self.idle.set()
        self._calls = 0
        self._routes: dict[tuple[str, str], Route] = {
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
        method, path = scope["method"], scope["path"]
        route = self._routes.get((method, path))
        if route is None and method == "GET" and path.startswith("/v1/models/"):
            route = self._model
        try:
            if route is None:
                raise Refused(f"there is no {method} {path} here", status=404, code="route_not_found")
            await route(scope, receive, send)
        except Left:
            return
        except Exception as trouble:
            refused = refusal(trouble)
            seconds = trouble.retry_after if isinstance(trouble, Full) else 1
            later = [(b"retry-after", b"%d" % seconds)] if refused.status == 503 else None
            await answer(send, refused.status, refused.body(), later)

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._generate(receive, send, chat=True)

    async def _text(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._generate(receive, send, chat=False)

    async def _generate(self, receive: Receive, send: Send, *, chat: bool) -> None:
        longest = self._longest()
        with self._in_flight():
            body = await body_of(receive)
            request = read(body, chat=chat, default_tokens=longest, temperature=self._temperature)
            await self._generation.serve(request, longest, receive, send)

    async def _embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        longest = self._longest()
        with self._in_flight():
            await self._embedding.serve(read_embedding(await body_of(receive)), longest, receive, send)

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self._calls += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self.idle.set()

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = [self._described(name) for name in self._names]
        await answer(send, 200, orjson.dumps({"object": "list", "data": data}))

    async def _model(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/v1/models/")
        if name not in self._names:
            raise Refused(f"there is no model {name!r} here", status=404, code="model_not_found")
        await answer(send, 200, orjson.dumps(self._described(name)))

    def _described(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "local_backend",
            "max_model_len": self._engine.max_len or None,
        }

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        longest = self._longest()
        body = await body_of(receive)
        request = read(body, chat="messages" in payload_of(body), default_tokens=16)
        tokens, *others = await asyncio.to_thread(self._preparation.ids, request)
        if others:
            raise Refused("'prompt' must be one text here", param="prompt", code="invalid_value")
        found = {"tokens": tokens, "count": len(tokens), "max_model_len": longest}
        await answer(send, 200, orjson.dumps(found))

    async def _detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        tokens = read_tokens(await body_of(receive))
        self._preparation.check_token("tokens", tokens)
        await answer(send, 200, orjson.dumps({"prompt": self._preparation.tokenizer.decode(tokens)}))

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, reason = self._state()
        told = {"status": state, "reason": reason} if reason else {"status": state}
        await answer(send, 200 if state == "ready" else 503, orjson.dumps(told))

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics = await self._engine.measure()
        await answer(send, 200, metrics.render(self._engine.restarts), kind=_PLAIN)

    def _state(self) -> tuple[str, str]:
        """Whether calls are taken, in a word, and why not."""
        if self.draining:
            return "draining", "the server ends when the calls in flight have been answered"
        return self._engine.state, self._engine.reason

    def _longest(self) -> int:
        """The longest sequence in tokens. Raises EngineGone while there is no engine."""
        state, reason = self._state()
        if state != "ready":
            raise EngineGone(f"the engine is {state}: {reason}")
        return self._engine.max_len
