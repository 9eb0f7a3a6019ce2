"""OpenAI's embeddings by Bedrock's InvokeModel, which hands each maker's models a body of their own.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html tells Titan's,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html Cohere's.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.wire.base import Asked, Changes
from gateway.wire.converse.back import ConverseBack
from gateway.wire.embeddings import Across, check_form, texts_of, told, vectors_of
from gateway.wire.fields import is_count
from gateway.wire.refusals import Refusals

Json = dict[str, Any]
_TURNED = frozenset({"model", "input", "user", "encoding_format"})
_FLOATS = ["float"]


class ToTitan(Across):
    """Amazon's Titan takes one text a call."""

    name = "bedrock.titan_embed"
    back = ConverseBack()  # all of Bedrock's errors are alike

    def write(self, call: Call, changes: Changes) -> bytes:
        """Raises BadRequest."""
        payload, refusals = call.payload, Refusals("Titan's embeddings", changes.dropped, changes.left_out)
        check_form(payload, refusals)
        texts = texts_of(payload, "Titan")
        if len(texts) != 1:
            message = "'input' must be one text: this model takes no more a call; ask for each text by itself"
            raise BadRequest(message, code="unsupported_parameter", param="input")
        return orjson.dumps({**_queue(payload, changes), "inputText": texts[0]})

    def turned(self, answer: Any, asked: Asked) -> Json:
        values, prompt = answer["embedding"], answer.get("inputTextTokenCount")
        return told(vectors_of([values]), prompt if is_count(prompt) else None, asked)


class ToCohereOnBedrock(Across):
    """Cohere's models as they are on Bedrock: the model is not named, and no tokens are told."""

    name = "bedrock.cohere_embed"
    back = ConverseBack()

    def write(self, call: Call, changes: Changes) -> bytes:
        """What the texts are for must be said, and OpenAI's clients do not: stored are most of them. Raises
        BadRequest."""
        payload, refusals = call.payload, Refusals("Cohere's embeddings", changes.dropped, changes.left_out)
        check_form(payload, refusals)
        body = {"input_type": "search_document", **_queue(payload, changes)}
        if body.pop("embedding_types", _FLOATS) != _FLOATS:
            refusals.add("embedding_types")
        if "dimensions" in body:
            body["output_dimension"] = body.pop("dimensions")
        return orjson.dumps({**body, "texts": texts_of(payload, "Cohere")})

    def turned(self, answer: Any, asked: Asked) -> Json:
        """Models from the fourth on name the kind of their numbers (bedrock-invoke-f0e653ec29)."""
        found = answer["embeddings"]
        return told(vectors_of(found["float"] if isinstance(found, dict) else found), None, asked)


def _queue(payload: Mapping[str, Any], changes: Changes) -> Json:
    """What is the model's own affair, as `normalize` or `truncate`."""
    asked = {**changes.params, **payload}
    return {name: value for name, value in asked.items() if name not in _TURNED and value is not None}
