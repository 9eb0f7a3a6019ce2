"""The formats we speak, and the ways across from one to another."""

from gateway.core.failure import BadRequest
from gateway.wire.base import EVENTS, Dialect, Way
from gateway.wire.chat import Chat
from gateway.wire.cohere.back import CohereBack
from gateway.wire.cohere.embed import ToCohere
from gateway.wire.converse.back import ConverseBack
from gateway.wire.crossing import Crossing
from gateway.wire.embeddings import Embeddings
from gateway.wire.eventstream import CONTENT_TYPE
from gateway.wire.gemini.back import GeminiBack
from gateway.wire.gemini.dialect import CountTokens as GeminiCountTokens
from gateway.wire.gemini.dialect import Generate
from gateway.wire.gemini.embeddings import Embed, FromGemini, ToGemini
from gateway.wire.gemini.front import GeminiFront
from gateway.wire.hub import ChatBack, ChatFront
from gateway.wire.invocations import Invocations, InvocationsBack
from gateway.wire.invoke import Invoke, InvokeCount
from gateway.wire.invoke_embed import ToCohereOnBedrock, ToTitan
from gateway.wire.messages.back import MessagesBack
from gateway.wire.messages.dialect import CountTokens, Messages
from gateway.wire.messages.front import MessagesFront
from gateway.wire.raw import Raw
from gateway.wire.rerank import FORMATS, RERANK_DIALECTS, Ranked, Rerank
from gateway.wire.responses.back import ResponsesBack
from gateway.wire.responses.dialect import Responses
from gateway.wire.responses.front import ResponsesFront
from gateway.wire.responses.retold import Retold
from gateway.wire.sides import Back, Front
from gateway.wire.triton import ENGINES, ToTriton

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Chat("openai.chat", "messages"),
        Chat("openai.completions", "prompt"),
        Embeddings(),
        Raw(),
        Messages(),
        CountTokens(),
        Generate(),
        Generate("gemini.array"),
        GeminiCountTokens(),
        Embed("gemini.embed", "content"),
        Embed("gemini.batch_embed", "requests"),
        Responses(),
        Rerank("cohere.rerank"),
        Rerank("cohere.rerank_v1"),
    )
}
# What the endpoints of a dialect are called in metrics and usage.
ROUTES: dict[str, str] = {
    "openai.chat": "chat",
    "openai.completions": "completions",
    "openai.embeddings": "embeddings",
    "openai.responses": "responses",
    "anthropic.messages": "messages",
    "anthropic.count_tokens": "count_tokens",
    "gemini.generate": "generate",
    "gemini.count_tokens": "count_tokens",
    "gemini.embed": "embeddings",
    "gemini.batch_embed": "embeddings",
    "cohere.rerank": "rerank",
    "cohere.rerank_v1": "rerank",
}
FRONTS: dict[str, Front] = {
    "openai.chat": ChatFront(),
    "anthropic.messages": MessagesFront(),
    "openai.responses": ResponsesFront(),
    "gemini.generate": GeminiFront(),
    "gemini.array": GeminiFront(is_array=True),
}
BACKS: dict[str, Back] = {
    "openai.chat": ChatBack(),
    "anthropic.messages": MessagesBack(),
    "bedrock.converse": ConverseBack(),
    "cohere.chat": CohereBack(),
    "gemini.generate": GeminiBack(),
    "openai.responses": ResponsesBack(),
    "sagemaker.chat": InvocationsBack(),
}
# Of streams that are no server-sent events.
_MEDIA = {"bedrock.converse": CONTENT_TYPE, "sagemaker.chat": CONTENT_TYPE}
# Embeddings go by what their provider's chat is called, as a provider has one native dialect; Bedrock's by maker.
_EMBEDDINGS: dict[tuple[str, str], Way] = {
    ("openai.embeddings", "bedrock.cohere_embed"): ToCohereOnBedrock(),
    ("openai.embeddings", "bedrock.titan_embed"): ToTitan(),
    ("openai.embeddings", "cohere.chat"): ToCohere(),
    ("openai.embeddings", "gemini.generate"): ToGemini(),
    ("gemini.embed", "openai.chat"): FromGemini(),
    ("gemini.batch_embed", "openai.chat"): FromGemini(),
}
# The client's own words, in another framing.
_FRAMED: dict[tuple[str, str], Way] = {
    ("openai.chat", "sagemaker.chat"): Invocations(),
    ("anthropic.messages", "bedrock.messages"): Invoke(),
    ("anthropic.count_tokens", "bedrock.count_tokens"): InvokeCount(),
}
_RERANKS: dict[tuple[str, str], Way] = {
    (front, back): Ranked(back, form) for front in RERANK_DIALECTS for back, form in FORMATS.items()
}
_COMPLETIONS: dict[tuple[str, str], Way] = {
    ("openai.completions", name): ToTriton(name, engine) for name, engine in ENGINES.items()
}
_CROSSINGS: dict[tuple[str, str], Way] = {
    (front, back): Crossing(back, FRONTS[front], BACKS[back], _MEDIA.get(back, EVENTS))
    for front in FRONTS
    for back in BACKS
    if front != back
}
# From a dialect to itself, for an answer of the other kind than was asked for: whole, or a stream.
_RETOLD: dict[str, Crossing] = {
    name: Crossing(name, FRONTS[name], BACKS[name])
    for name in ("openai.chat", "anthropic.messages", "gemini.generate")
} | {"openai.responses": Retold()}
STREAMED = frozenset(FRONTS) | {"openai.completions"}  # dialects whose answers may be asked for as streams
_WAYS = _CROSSINGS | _COMPLETIONS | _EMBEDDINGS | _FRAMED | _RERANKS


def leads(front: str, back: str) -> bool:
    """Whether a call in one dialect can be put to a provider in another."""
    return front == back or (front, back) in _WAYS


def retold(dialect: str) -> Crossing | None:
    """How an answer in a dialect is told as the other kind of answer in the same; None where there is no way."""
    return _RETOLD.get(dialect)


def between(front: str, back: str) -> Way:
    """Raises BadRequest where there is no way from one to the other."""
    way = _WAYS.get((front, back))
    if way is None:
        message = f"this model's provider has no such endpoint: {front} cannot be translated to {back}"
        raise BadRequest(message, code="unsupported_endpoint")
    return way
