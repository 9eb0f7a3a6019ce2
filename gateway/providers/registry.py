"""The provider types a policy file may name: most are a row of data.

A row says where its provider is, and how its chat differs from OpenAI's; what shows a difference is named beside
it: the id of a recorded exchange, or the provider's documentation.
"""

from gateway.core.exchange import Target
from gateway.providers.aws.bedrock import Bedrock
from gateway.providers.aws.sagemaker import SageMaker
from gateway.providers.azure import Azure
from gateway.providers.base import Provider
from gateway.providers.cohere import Cohere
from gateway.providers.compatible import (
    ANTHROPIC_DIALECTS,
    GEMINI_DIALECTS,
    RANKING_DIALECTS,
    Compatible,
    Tenant,
)
from gateway.providers.gemini import Gemini
from gateway.providers.local import Local
from gateway.providers.tei import Tei
from gateway.providers.triton import Triton
from gateway.providers.vertex.adapter import Vertex
from gateway.wire.base import Quirks
from gateway.wire.registry import leads
from gateway.wire.rerank import RERANK_DIALECTS

# Signed thoughts go back as they came: "openrouter.ai/docs, Preserving reasoning blocks"; Snowflake passes Claude's
# on likewise (snowflake-chat_completions-e1300c9850).
_SIGNS = Quirks(signed=True)
# "Unrecognized request argument supplied: top_k" (xlinx/sd-webui-decadetw-auto-prompt-llm#29).
_OWN = Quirks(refuses=frozenset({"top_k"}))

PROVIDERS: dict[str, Provider] = {
    "anthropic": Compatible(
        "https://api.anthropic.com",
        needs_key=True,
        dialects=ANTHROPIC_DIALECTS,
        native="anthropic.messages",
        root="/v1",
        credential=b"x-api-key: ",
        version=(b"anthropic-version", b"2023-06-01"),
    ),
    "azure": Azure(cap_name="max_completion_tokens", quirks=_OWN),
    "azure-ml": Compatible(needs_key=True),  # an endpoint's own address, down to /v1
    "bedrock": Bedrock(),
    # docs: these four are a 400, "Currently unsupported OpenAI features".
    "cerebras": Compatible(
        "https://api.cerebras.ai/v1",
        needs_key=True,
        cap_name="max_completion_tokens",
        quirks=Quirks(
            refuses=frozenset({"frequency_penalty", "logit_bias", "presence_penalty", "service_tier"})
        ),
    ),
    "cloudflare": Compatible(
        "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1", needs_key=True, spec=Tenant
    ),
    "cohere": Cohere(
        "https://api.cohere.com", needs_key=True, dialects=RERANK_DIALECTS, native="cohere.chat"
    ),
    "compatible": Compatible(dialects=RANKING_DIALECTS),  # a server that has no such route says so itself
    "databricks": Compatible(needs_key=True),  # https://<workspace>/serving-endpoints
    "deepinfra": Compatible("https://api.deepinfra.com/v1/openai", needs_key=True),
    # Thoughts must come back where tools were called, else a 400 (docs, "Thinking mode"; QwenLM/qwen-code#3578); a
    # content that is a list is a 400 too (QwenLM/qwen-code#2320).
    "deepseek": Compatible(
        "https://api.deepseek.com/v1", needs_key=True, quirks=Quirks(thought="reasoning_content", flat=True)
    ),
    "fireworks": Compatible(
        "https://api.fireworks.ai/inference/v1", needs_key=True, rerank="fireworks.rerank"
    ),
    "gemini": Gemini(
        "https://generativelanguage.googleapis.com",
        needs_key=True,
        cap_name="maxOutputTokens",
        dialects=GEMINI_DIALECTS,
        native="gemini.generate",
        root="/v1beta",
        credential=b"x-goog-api-key: ",
        bad_key=b"API_KEY_INVALID",  # gemini-generatecontent-c365f901ee
    ),
    # Usage stands in `x_groq` unasked (groq-chat_completions-0404df1e1a); docs, "Currently unsupported OpenAI
    # features": these are a 400.
    "groq": Compatible(
        "https://api.groq.com/openai/v1",
        needs_key=True,
        cap_name="max_completion_tokens",
        quirks=Quirks(gives_usage=True, refuses=frozenset({"logit_bias", "logprobs", "top_logprobs"})),
    ),
    "huggingface": Compatible("https://router.huggingface.co/v1", needs_key=True),
    "jina": Compatible("https://api.jina.ai/v1", needs_key=True, dialects=RANKING_DIALECTS),
    "llama.cpp": Compatible(dialects=RANKING_DIALECTS),
    "lmstudio": Compatible("http://127.0.0.1:1234/v1"),
    "local": Local(),
    # Usage comes unasked in the last chunk (16 of 16 recorded streams, as mistral-chat_completions-3273410530); any
    # field it does not know is a 422 extra_forbidden (mistralai/platform-docs-public#7). Ids of calls have nine letters
    # and digits, as all on record (mistral-chat_completions-0ec4df2aec); others are a 400.
    "mistral": Compatible(
        "https://api.mistral.ai/v1",
        needs_key=True,
        quirks=Quirks(gives_usage=True, refuses=frozenset({"logit_bias", "top_k", "user"}), ident=9),
    ),
    "nvidia": Compatible("https://integrate.api.nvidia.com/v1", needs_key=True),
    "ollama": Compatible("http://127.0.0.1:11434/v1"),
    "openai": Compatible(
        "https://api.openai.com/v1",
        needs_key=True,
        cap_name="max_completion_tokens",
        responses=True,
        quirks=_OWN,
    ),
    # Rerank is Jina's (openrouter-rerank-0176c30461). A prompt that moderation flags is a 403, as is a key that may not
    # do what was asked: the first tells of the prompt (docs, "Moderation Errors").
    "openrouter": Compatible(
        "https://openrouter.ai/api/v1",
        needs_key=True,
        quirks=_SIGNS,
        dialects=RANKING_DIALECTS,
        bad_call=b'"flagged_input"',
    ),
    # Usage is in every chunk, unasked (perplexity-chat_completions-dfae2e1008); its address has no version.
    "perplexity": Compatible("https://api.perplexity.ai", needs_key=True, quirks=Quirks(gives_usage=True)),
    "sagemaker": SageMaker(),
    "sglang": Compatible(
        "http://127.0.0.1:30000/v1", quirks=Quirks(thought="reasoning_content"), rerank="sglang.rerank"
    ),
    "snowflake": Compatible(
        "https://{account}.snowflakecomputing.com/api/v2/cortex/v1",
        needs_key=True,
        spec=Tenant,
        quirks=_SIGNS,
    ),
    "tei": Tei("http://127.0.0.1:8080", rerank="tei.rerank"),
    "tensorrt-llm": Compatible("http://127.0.0.1:8000/v1"),
    "tgi": Compatible(),
    # docs, "Rerank": "Cohere compatible".
    "together": Compatible("https://api.together.ai/v1", needs_key=True, dialects=RANKING_DIALECTS),
    "triton": Triton("http://127.0.0.1:9000/v1"),
    "vertex": Vertex(),
    # Thoughts go back as `reasoning`; by the older name they are lost in silence (vllm-project/vllm#38488).
    "vllm": Compatible(
        "http://127.0.0.1:8000/v1", quirks=Quirks(thought="reasoning"), dialects=RANKING_DIALECTS
    ),
    "voyage": Compatible("https://api.voyageai.com/v1", needs_key=True, rerank="voyage.rerank"),
    # A bad key is a 400 (xai-responses-03354a21a5), and the key is the gateway's own.
    "xai": Compatible(
        "https://api.x.ai/v1",
        needs_key=True,
        cap_name="max_completion_tokens",
        bad_key=b"Incorrect API key provided",
    ),
    "zai": Compatible("https://api.z.ai/api/paas/v4", needs_key=True),
}


def serves(dialect: str, model: str, target: Target) -> bool:
    """Whether this target's provider has an endpoint for calls in a dialect that ask for a model, in the client's words
    or in its own."""
    return leads(dialect, PROVIDERS[target.kind].speaks(dialect, target.asked(model), target.facts))
