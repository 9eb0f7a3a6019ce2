"""The HTTP face: OpenAI's routes over a unix socket or TCP, raw ASGI under uvicorn. Torch-free but for the
engine that it is given."""

import asyncio
import time
from typing import Any

import orjson

from local_backend.asgi import Left, Receive, Route, Scope, Send, answer, body_of
from local_backend.client import EngineThread
from local_backend.fields import Refused, ids, payload_of
from local_backend.generation import Generation
from local_backend.preparation import Preparation
from local_backend.types import BadJob, Full
from local_backend.wire import read

_PLAIN = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Server:
    """One ASGI application for one model. `engine` may still be loading."""

    def __init__(
        self,
        engine: EngineThread,
        preparation: Preparation,
        names: list[str],
        temperature: float,
    ) -> None:
        self._engine, self._preparation, self._names = engine, preparation, names
        self._temperature = temperature
        self._generation = Generation(engine, preparation, time.time)
        self._created = int(time.time())
        self.draining = False
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
        except Refused as error:
            await answer(send, error.status, error.body())
        except Full as full:
            refusal = Refused(f"the engine is full: {full}", status=503, code="overloaded")
            await answer(send, 503, refusal.body(), [(b"retry-after", b"%d" % full.retry_after)])
        except BadJob as error:
            await answer(send, 400, Refused(str(error), code="invalid_value").body())
        except Left:
            return

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._generate(receive, send, chat=True)

    async def _text(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._generate(receive, send, chat=False)

    async def _generate(self, receive: Receive, send: Send, *, chat: bool) -> None:
        longest = self._longest()
        request = read(
            await body_of(receive), chat=chat, default_tokens=longest, temperature=self._temperature
        )
        await self._generation.serve(request, longest, receive, send)

    async def _embeddings(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused("this model offers no embeddings", param="model", code="model_not_supported")

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = [self._described(name) for name in self._names]
        await answer(send, 200, orjson.dumps({"object": "list", "data": data}))

    async def _model(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/v1/models/")
        if name not in self._names:
            raise Refused(f"there is no model {name!r} here", status=404, code="model_not_found")
        await answer(send, 200, orjson.dumps(self._described(name)))

    def _described(self, name: str) -> dict[str, Any]:
        length = self._engine.engine.max_len if self._engine.engine else None
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "local_backend",
            "max_model_len": length,
        }

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        longest = self._longest()
        body = await body_of(receive)
        payload = payload_of(body)
        chat = "messages" in payload
        if not chat:
            body = orjson.dumps({"prompt": payload.get("prompt", "")})
        request = read(body, chat=chat, default_tokens=1)
        tokens = (await asyncio.to_thread(self._preparation.ids, request))[0]
        found = {"tokens": tokens, "count": len(tokens), "max_model_len": longest}
        await answer(send, 200, orjson.dumps(found))

    async def _detokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        tokens = ids(payload_of(await body_of(receive)).get("tokens"), "tokens")
        await answer(send, 200, orjson.dumps({"prompt": self._preparation.tokenizer.decode(tokens)}))

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._unready()
        await answer(send, 503 if reason else 200, orjson.dumps({"status": reason or "ready"}))

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._longest()
        assert self._engine.engine is not None
        await answer(send, 200, self._engine.engine.metrics.render(), kind=_PLAIN)

    def _unready(self) -> str:
        """Why no call can be served; empty when it can."""
        if self.draining:
            return "draining"
        if self._engine.failed is not None:
            return "failed"
        return "" if self._engine.ready.is_set() else "loading"

    def _longest(self) -> int:
        """The longest sequence in tokens. Raises Refused while the engine is not there."""
        reason = self._unready()
        if reason or self._engine.engine is None:
            raise Refused(f"the engine is {reason}; see /health", status=503, code="overloaded")
        return self._engine.engine.max_len
