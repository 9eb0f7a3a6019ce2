"""A call for embeddings: inputs to token ids, vectors out of the engine, OpenAI's answer. Torch-free."""

import asyncio
import base64
from array import array

import orjson

from local_backend.asgi import Left, Receive, Send, answer, left
from local_backend.client import EngineClient, Stream
from local_backend.fields import Refused
from local_backend.pooling import Pooling
from local_backend.tokenizer import Tokenizer
from local_backend.types import Finish, Job, Sampling
from local_backend.wire import EmbeddingRequest

Vector = tuple[float, ...]


class Embedding:
    """What all calls of one model share; `pooling` None: the model was not made for it."""

    def __init__(self, engine: EngineClient, tokenizer: Tokenizer, pooling: Pooling | None) -> None:
        self._engine, self._tokenizer, self._pooling = engine, tokenizer, pooling

    async def serve(self, request: EmbeddingRequest, longest: int, receive: Receive, send: Send) -> None:
        """`longest` is of one input in tokens. Raises Refused, Full, BadJob, EngineGone, Left."""
        if self._pooling is None:
            raise Refused(
                "this model offers no embeddings: its folder has no modules.json that says how to pool them",
                param="model",
                code="model_not_supported",
            )
        pooling = self._pooling
        most = min(pooling.most or longest, longest)
        inputs = await asyncio.to_thread(self._ids, request, pooling.prompt, most)
        streams = [
            stream
            for ids in inputs
            for stream in self._engine.submit(Job(ids, Sampling(temperature=0.0, max_tokens=1), embed=True))
        ]
        watcher = asyncio.ensure_future(left(receive))
        call = asyncio.ensure_future(_vectors(streams))
        try:
            await asyncio.wait({watcher, call}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise Left
            vectors = [cut(vector, request.dimensions, pooling) for vector in call.result()]
        finally:
            watcher.cancel()
            call.cancel()
            for stream in streams:
                self._engine.abort(stream)
        await answer(send, 200, await asyncio.to_thread(_told, request, vectors, sum(map(len, inputs))))

    def _ids(self, request: EmbeddingRequest, prompt: str, most: int) -> list[list[int]]:
        """Token ids are taken as they are; texts get what the model wants before and around them. Raises Refused."""
        found = list[list[int]]()
        for place, one in enumerate(request.inputs):
            if isinstance(one, str):
                if self._tokenizer.exceeds(prompt + one, most):
                    raise _too_long(place, f"more than {most}", most)
                one = self._tokenizer.encode(prompt + one, special=True)
            if len(one) > most:
                raise _too_long(place, str(len(one)), most)
            found.append(one)
        return found


async def _vectors(streams: list[Stream]) -> list[Vector]:
    found = [await stream.next() for stream in streams]
    if any(delta.finish is Finish.ERROR for delta in found):
        raise Refused("the model has computed no numbers for one of the inputs", status=500)
    return [delta.vector for delta in found]


def cut(vector: Vector, dimensions: int | None, pooling: Pooling) -> Vector:
    """The first of its elements, of length 1 again where the whole was. Raises Refused."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise Refused(
            f"'dimensions' must be {len(vector)} at most: that is what this model makes",
            param="dimensions",
            code="invalid_value",
        )
    kept = vector[:dimensions]
    length = sum(one * one for one in kept) ** 0.5 if pooling.normalize else 1.0
    return tuple(one / (length or 1.0) for one in kept)


def _too_long(place: int, tokens: str, most: int) -> Refused:
    return Refused(
        f"input {place} has {tokens} tokens and this model takes {most} at most",
        param="input",
        code="context_length_exceeded",
    )


def _told(request: EmbeddingRequest, vectors: list[Vector], tokens: int) -> bytes:
    data = [
        {"object": "embedding", "index": place, "embedding": _packed(one) if request.base64 else one}
        for place, one in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": request.model, "usage": usage})


def _packed(vector: Vector) -> str:
    """fp32, as OpenAI packs them: the machines that run this are little-endian."""
    return base64.b64encode(array("f", vector).tobytes()).decode()
