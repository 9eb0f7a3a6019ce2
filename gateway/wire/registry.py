"""The formats we speak."""

from gateway.wire.base import Dialect
from gateway.wire.chat import Chat
from gateway.wire.embeddings import Embeddings
from gateway.wire.raw import Raw

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Chat("openai.chat", "messages"),
        Chat("openai.completions", "prompt"),
        Embeddings(),
        Raw(),
    )
}
