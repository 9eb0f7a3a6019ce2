"""Rerank as Cohere made it, in both its versions: Jina, vLLM and others took it over, and their answers pass as they
are. What some call it otherwise is turned."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked, Changes, Reading
from gateway.wire.cohere.words import count
from gateway.wire.embeddings import Across, Embeddings, EmbeddingsTap
from gateway.wire.fields import bound, note_usage, read_object
from gateway.wire.hub import ChatBack
from gateway.wire.refusals import Refusals, refused
from gateway.wire.weights import estimate, json_tokens

Json = dict[str, Any]
RERANK_DIALECTS = frozenset({"cohere.rerank", "cohere.rerank_v1"})
# How long documents are cut, and what of them is read: only Cohere's own servers know of it.
_NOT_CARRIED = ("rank_fields", "max_chunks_per_doc", "max_tokens_per_doc", "relevant_spans")
_TURNED = frozenset({"model", "query", "documents", "top_n", "return_documents", "stream", "priority"})


class Rerank(Embeddings):
    """Its answer is whole, like that of embeddings. The first version takes documents that are objects, and shows
    them again where it is asked to."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, body: bytes) -> Reading:
        reading = read_object(body)
        for name, kind, what in (("query", str, "a text"), ("documents", list, "a list")):
            value = reading.payload.get(name)
            if value is None:
                raise BadRequest(f"'{name}' is missing", code="missing_required_parameter", param=name)
            if not isinstance(value, kind):
                raise BadRequest(f"'{name}' must be {what}", code="invalid_type", param=name)
        return reading

    def shape(self, payload: Mapping[str, Any], size: int) -> Shape:
        """The query is read with every document. Nothing is written: nothing is reserved for an output."""
        bound(payload, "top_n", most=2**31)
        documents = payload["documents"]
        query, _ = estimate(payload["query"])
        read = sum(estimate(one)[0] if isinstance(one, str) else json_tokens(one) + 1 for one in documents)
        return Shape(read + len(documents) * query, 0, 0)

    def tap(self, asked: Asked) -> "RerankTap":
        return RerankTap(asked.usage)


class RerankTap(EmbeddingsTap):
    __slots__ = ()

    def whole(self, body: bytes) -> None:
        self.begun = self.finished = True
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if isinstance(answer, dict):
            _note(self._usage, answer)
        else:
            self.failed = True


def _note(usage: Usage, answer: Mapping[str, Any]) -> None:
    """Cohere counts the searches that it bills, others the tokens that they read."""
    note_usage(usage, answer.get("usage"))
    meta = answer.get("meta")
    for name in ("billed_units", "tokens"):
        counts = meta.get(name) if isinstance(meta, dict) else None
        if isinstance(counts, dict):
            usage.search_units = usage.search_units or count(counts, "search_units")
            if "input_tokens" in counts:
                note_usage(usage, {"prompt_tokens": count(counts, "input_tokens")})


class Format(NamedTuple):
    """How a server calls the documents, how many it is to name ("": it names all) and whether it is to show them;
    under which name its answer lists them ("": it is the list) and what their score is called."""

    documents: str = "documents"
    top: str = "top_n"
    shown: str = "return_documents"
    listed: str = "data"
    score: str = "relevance_score"
    defaults: Mapping[str, Any] = {}


FORMATS: Mapping[str, Format] = {
    "fireworks.rerank": Format(),  # docs, "Rerank documents": it shows them unless it is told not to
    "sglang.rerank": Format(listed="", score="score"),  # docs, "Rerank models"
    # huggingface/text-embeddings-inference, router/src/http/types.rs. Cohere cuts what is too long; so shall this.
    "tei.rerank": Format("texts", "", "return_text", "", "score", {"truncate": True}),
    "voyage.rerank": Format(top="top_k"),  # voyage-rerank-46084e1edc
}


class Ranked(Across):
    """Rerank by a server that calls it otherwise."""

    back = ChatBack()

    def __init__(self, name: str, form: Format) -> None:
        self.name = name
        self._form = form

    def write(self, call: Call, changes: Changes) -> bytes:
        payload, form = call.payload, self._form
        refusals = Refusals("this provider's rerank", changes.dropped, changes.left_out)
        refusals.leave_out_of(payload, ("priority",))
        for name in _NOT_CARRIED:
            if payload.get(name) is not None:
                refusals.add(name)
        known = _TURNED.union(_NOT_CARRIED)
        body: Json = {**form.defaults, **changes.params}
        body |= {name: value for name, value in payload.items() if name not in known}
        if form.top and payload.get("top_n") is not None:
            body[form.top] = payload["top_n"]
        texts = [_text(one, place) for place, one in enumerate(payload["documents"])]
        said = {"model": changes.model, "query": payload["query"], form.documents: texts, form.shown: False}
        return orjson.dumps(body | said)

    def refusal(self, status: int, body: bytes) -> bytes:
        told = orjson.loads(super().refusal(status, body))
        return orjson.dumps({"message": told["error"]["message"], **told})

    def turned(self, answer: Any, asked: Asked) -> Json:
        """Raises BadStream."""
        payload, usage = asked.payload, asked.usage
        listed = answer.get(self._form.listed) if isinstance(answer, dict) else answer
        if not isinstance(listed, list):
            raise sse.BadStream("the answer lists no documents")
        ranks = [(one["index"], one[self._form.score]) for one in listed]
        ranks.sort(key=lambda rank: -rank[1])
        shown = payload.get("return_documents") is True
        results = [
            {"index": index, "relevance_score": score}
            | (_shown(payload["documents"][index]) if shown else {})
            for index, score in ranks[: payload.get("top_n")]
        ]
        found: Json = {"id": asked.ident, "results": results}
        if isinstance(answer, dict):
            _note(usage, answer)
        return {**found, "meta": {"tokens": {"input_tokens": usage.prompt}}} if usage.reported else found


def _text(document: Any, place: int) -> str:
    """Raises BadRequest: a document cannot be left out, for the others are counted."""
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise refused(f"documents[{place}]", "this provider's rerank")
    return text


def _shown(document: Any) -> Json:
    return {"document": {"text": document} if isinstance(document, str) else document}
