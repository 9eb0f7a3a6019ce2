"""OpenAI's embeddings from a model of Cohere's."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Changes
from gateway.wire.cohere.back import CohereBack
from gateway.wire.cohere.words import count
from gateway.wire.embeddings import Across, TurnedTap, check_form, texts_of, told
from gateway.wire.hub import ChatFront
from gateway.wire.refusals import Refusals

Json = dict[str, Any]
_TURNED = frozenset({"input", "user", "dimensions", "encoding_format", "embedding_types"})
_FLOATS = ["float"]
# Models from the third on must be told what the texts are for, and OpenAI's clients do not say. What is stored is
# embedded most; a search gives its own `input_type`, in the call or in its provider's `params`.
_PURPOSE = "search_document"


class ToCohere(Across):
    name = "cohere.embed"

    def write(self, call: Call, changes: Changes) -> bytes:
        payload, refusals = call.payload, Refusals("Cohere", changes.dropped)
        check_form(payload, refusals)
        if payload.get("embedding_types", _FLOATS) != _FLOATS:
            refusals.add("embedding_types")
        body = {"input_type": _PURPOSE, **changes.params}
        body |= {name: value for name, value in payload.items() if name not in _TURNED}
        if payload.get("dimensions") is not None:
            body["output_dimension"] = payload["dimensions"]
        texts = texts_of(payload, "Cohere")
        return orjson.dumps(body | {"model": changes.model, "texts": texts, "embedding_types": _FLOATS})

    def tap(
        self,
        asked: Mapping[str, Any],
        usage: Usage,
        *,
        withhold_usage: bool,
        choices: int = 1,
        moment: int = 0,
        ident: str = "",
    ) -> TurnedTap:
        return TurnedTap(usage, asked, _as_openai)

    def refusal(self, status: int, body: bytes) -> bytes:
        error = CohereBack().error(body)
        return ChatFront().refusal(status, str(error["message"]), error)


def _as_openai(answer: Any, asked: Mapping[str, Any], usage: Usage) -> Json:
    found = answer.get("embeddings") if isinstance(answer, dict) else None
    vectors = found.get("float") if isinstance(found, dict) else None
    if not isinstance(vectors, list) or not all(isinstance(values, list) for values in vectors):
        raise sse.BadStream("the answer has no embeddings")
    meta = answer.get("meta") or {}
    counts = meta.get("tokens") or meta.get("billed_units") or {}
    prompt = count(counts, "input_tokens") if "input_tokens" in counts else None
    return told(vectors, prompt, asked, usage)
