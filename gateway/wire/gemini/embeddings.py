"""Gemini's embeddings: one text or several a call; and OpenAI's and Gemini's turned into each other."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.wire import sse
from gateway.wire.base import Asked, Changes, Reading, Untouched
from gateway.wire.embeddings import Across, EmbeddingsTap, check_form, texts_of, told
from gateway.wire.envelope import render
from gateway.wire.fields import is_count, note_usage
from gateway.wire.gemini.back import GeminiBack
from gateway.wire.gemini.dialect import read_members
from gateway.wire.gemini.front import GeminiFront
from gateway.wire.gemini.weights import estimate
from gateway.wire.gemini.words import camel
from gateway.wire.hub import ChatBack
from gateway.wire.refusals import Refusals
from gateway.wire.splice import set_members

Json = dict[str, Any]
_COUNTS = re.compile(rb'"usageMetadata"\s*:\s*\{[^{}]*?"promptTokenCount"\s*:\s*(\d+)')


class Embed(Untouched):
    """`embedContent` (`listed` is content), or `batchEmbedContents` (requests). A model that is called otherwise
    than it was asked for is renamed in the body too, where it may stand again."""

    def __init__(self, name: str, listed: str) -> None:
        self.name = name
        self._listed = listed

    def read(self, body: bytes) -> Reading:
        payload = read_members(body)
        if not isinstance(payload.get(self._listed), list if self._listed == "requests" else dict):
            message = f"'{self._listed}' is missing"
            raise BadRequest(message, code="missing_required_parameter", param=self._listed)
        return Reading(payload, "", False)

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        contents = [request.get("content") for request in requests_of(payload)]
        # An embedding produces no tokens: nothing is reserved for an output.
        return Shape(estimate(contents)[0], 0, 0)

    def write(self, call: Call, changes: Changes) -> bytes:
        assert isinstance(call.body, bytes)
        add = {name: value for name, value in changes.params.items() if name not in call.payload}
        replace: Json = {}
        if changes.model != call.model:
            named = f"models/{changes.model}"
            replace = {"model": named} if "model" in call.payload else {}
            if "requests" in call.payload:
                replace["requests"] = [{**one, "model": named} for one in requests_of(call.payload)]
        return set_members(call.body, replace, add) if replace or add else call.body

    def tap(self, asked: Asked) -> "EmbedTap":
        return EmbedTap(asked.usage)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        return b"data: %b\r\n\r\n" % render(error, "gemini")


class EmbedTap(EmbeddingsTap):
    """Reads the usage, which newer models tell, without parsing megabytes of numbers."""

    __slots__ = ()

    def whole(self, body: bytes) -> None:
        self.begun = self.finished = True
        self.failed = not (body.lstrip().startswith(b"{") and body.rstrip().endswith(b"}"))
        if match := _COUNTS.search(body, max(0, len(body) - 1024)) or _COUNTS.search(body, 0, 1024):
            note_usage(self._usage, {"prompt_tokens": int(match[1])})


def requests_of(payload: Mapping[str, Any]) -> list[Json]:
    """The single texts of a call, whether it is for one or several. Raises BadRequest."""
    requests = payload.get("requests", [payload])
    if not all(isinstance(request, dict) for request in requests):
        raise BadRequest("'requests' must be a list of objects", code="invalid_type", param="requests")
    return [dict(request) for request in requests]


class ToGemini(Across):
    """OpenAI's embeddings from a Gemini model."""

    name = "gemini.batch_embed"
    back = GeminiBack()

    def write(self, call: Call, changes: Changes) -> bytes:
        check_form(call.payload, Refusals("Gemini", changes.dropped, changes.left_out))
        texts, more = texts_of(call.payload, "Gemini"), {**changes.params}
        for name, value in call.payload.items():
            if name == "dimensions":
                more["outputDimensionality"] = value
            elif name not in ("input", "model", "user", "encoding_format"):
                more[name] = value
        named = f"models/{changes.model}"
        requests = [{"model": named, "content": {"parts": [{"text": text}]}, **more} for text in texts]
        return orjson.dumps({"requests": requests})

    def turned(self, answer: Any, asked: Asked) -> Json:
        """Raises BadStream."""
        listed = _listed(answer, "embeddings")
        vectors = [one.get("values") if isinstance(one, dict) else None for one in listed]
        if not all(isinstance(values, list) for values in vectors):
            raise sse.BadStream("an embedding has no values")
        prompt = (answer.get("usageMetadata") or {}).get("promptTokenCount")  # most models tell none
        return told([values or [] for values in vectors], prompt if is_count(prompt) else None, asked)


class FromGemini(Across):
    """Gemini's embeddings from a provider that speaks like OpenAI."""

    name = "openai.embeddings"
    front, back = GeminiFront(), ChatBack()

    def write(self, call: Call, changes: Changes) -> bytes:
        refusals = Refusals("OpenAI's embeddings", changes.dropped)
        texts, sizes = [], []
        for place, request in enumerate(requests_of(call.payload)):
            where = f"requests[{place}]." if "requests" in call.payload else ""
            asked = camel(request)
            texts.append(_text(asked.get("content"), f"{where}content"))
            sizes.append(asked.get("outputDimensionality"))
            for name in sorted(asked.keys() - {"content", "model", "outputDimensionality"}):
                refusals.add(f"{where}{name}")
        if not texts:
            raise BadRequest("'requests' must not be empty", code="invalid_value", param="requests")
        size = sizes[-1]
        if any(other != size for other in sizes):
            refusals.add("requests[].outputDimensionality")
        body = {**changes.params, "model": changes.model, "input": texts, "encoding_format": "float"}
        return orjson.dumps(body | ({"dimensions": size} if size is not None else {}))

    def turned(self, answer: Any, asked: Asked) -> Json:
        """Raises BadStream."""
        found = [
            {"values": one.get("embedding") or []} for one in _listed(answer, "data") if isinstance(one, dict)
        ]
        usage = asked.usage
        note_usage(usage, answer.get("usage"))
        counts = {"usageMetadata": {"promptTokenCount": usage.prompt}} if usage.reported else {}
        if "requests" in asked.payload:
            return {"embeddings": found, **counts}
        if not found:
            raise sse.BadStream("the answer has no embedding")
        return {"embedding": found[0], **counts}


def _listed(answer: Any, name: str) -> list[Any]:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise sse.BadStream(f"the answer has no {name}")
    return found


def _text(content: Any, where: str) -> str:
    parts = content.get("parts") if isinstance(content, dict) else None
    texts = [part.get("text") for part in parts or [] if isinstance(part, dict)]
    if not texts or len(texts) != len(parts or []) or not all(isinstance(text, str) for text in texts):
        message = f"'{where}' must be made of texts: the model's provider embeds nothing else"
        raise BadRequest(message, code="unsupported_parameter", param=where)
    return "\n".join(str(text) for text in texts)
