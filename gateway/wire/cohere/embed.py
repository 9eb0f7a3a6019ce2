"""OpenAI's embeddings from a model of Cohere's."""

from typing import Any

import orjson

from gateway.core.exchange import Call
from gateway.wire.base import Asked, Changes
from gateway.wire.cohere.back import CohereBack
from gateway.wire.cohere.words import count
from gateway.wire.embeddings import Across, check_form, texts_of, told, vectors_of
from gateway.wire.refusals import Refusals

Json = dict[str, Any]
_TURNED = frozenset({"input", "user", "dimensions", "encoding_format", "embedding_types"})
_FLOATS = ["float"]
# Models from the third on must be told what the texts are for, and OpenAI's clients do not say. What is stored is
# embedded most; a search gives its own `input_type`, in the call or in its provider's `params`.
_PURPOSE = "search_document"


class ToCohere(Across):
    name = "cohere.embed"
    back = CohereBack()

    def write(self, call: Call, changes: Changes) -> bytes:
        payload, refusals = call.payload, Refusals("Cohere", changes.dropped, changes.left_out)
        check_form(payload, refusals)
        if payload.get("embedding_types", _FLOATS) != _FLOATS:
            refusals.add("embedding_types")
        body = {"input_type": _PURPOSE, **changes.params}
        body |= {name: value for name, value in payload.items() if name not in _TURNED}
        if payload.get("dimensions") is not None:
            body["output_dimension"] = payload["dimensions"]
        texts = texts_of(payload, "Cohere")
        return orjson.dumps(body | {"model": changes.model, "texts": texts, "embedding_types": _FLOATS})

    def turned(self, answer: Any, asked: Asked) -> Json:
        found = answer.get("embeddings") if isinstance(answer, dict) else None
        meta = answer.get("meta") or {} if isinstance(answer, dict) else {}
        counts = meta.get("tokens") or meta.get("billed_units") or {}
        prompt = count(counts, "input_tokens") if "input_tokens" in counts else None
        return told(vectors_of(found.get("float") if isinstance(found, dict) else None), prompt, asked)
