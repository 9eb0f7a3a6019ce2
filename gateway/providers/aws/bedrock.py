"""Amazon Bedrock: the model stands in the path, and requests are signed or show an API key."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.core.exchange import Call, Target
from gateway.providers.aws.service import Region, Service
from gateway.providers.compatible import keys_of
from gateway.wire.converse.back import OWN
from gateway.wire.converse.words import is_claude

# Ids, inference profiles and ARNs (InvokeModel's reference, modelId).
_MODEL = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._:/-]{0,2047}")
# What stands before an id in an inference profile's. Tokens are counted for models alone, not for profiles
# (bedrock-count_tokens-f78d161703).
_PROFILE = re.compile(r"^[a-z-]{2,8}\.(?=anthropic\.)")
_OPERATIONS = {
    "bedrock.converse": ("converse", "converse-stream"),
    "bedrock.messages": ("invoke", "invoke-with-response-stream"),
    "bedrock.titan_embed": ("invoke", ""),
    "bedrock.cohere_embed": ("invoke", ""),
}
# What stands in the names of models that embed, and whose words they take.
_EMBED = {"amazon.titan-embed-text": "bedrock.titan_embed", "cohere.embed": "bedrock.cohere_embed"}


@dataclass(slots=True, frozen=True)
class AwsEndpoint:
    """What the policy file says. `endpoint` is another address than the region's own (a VPC endpoint, a proxy).
    Without `api_key` requests are signed with keys of the AWS credential chain, or of `profile`. `messages` is the
    way of Anthropic's Messages: `invoke` in Anthropic's own words, `converse` in Bedrock's, `auto` the first for
    models that are named as Claudes."""

    region: str
    endpoint: str = ""
    api_key: str | list[str] | None = field(default=None, repr=False)
    profile: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)
    messages: Literal["auto", "invoke", "converse"] = "auto"


@dataclass(slots=True, frozen=True)
class BedrockRegion(Region):
    messages: str = "auto"


@dataclass(slots=True, frozen=True)
class Bedrock(Service):
    spec: type[Any] = AwsEndpoint
    native: str = "bedrock.converse"
    host: str = "bedrock-runtime"
    signs: str = "bedrock"
    names: re.Pattern[str] | None = _MODEL
    no_name: str = (
        "no model of Bedrock's; name an id, an inference profile or an ARN (letters, digits and ._:/-)"
    )

    def speaks(self, dialect: str, model: str, facts: Any = None) -> str:
        """Counted is by InvokeModel's words whichever way messages go."""
        way = "auto" if facts is None else facts.messages
        if dialect == "anthropic.count_tokens" and (is_claude(model) or way == "invoke"):
            return "bedrock.count_tokens"
        if dialect == "anthropic.messages" and (way == "invoke" or (is_claude(model) and way == "auto")):
            return "bedrock.messages"
        if dialect == "openai.embeddings":
            return next((spoken for part, spoken in _EMBED.items() if part in model), self.native)
        return self.native

    def enabled(self, spec: Any) -> bool:
        """Without a key at all requests are signed; one that is given but empty is off."""
        return spec.api_key is None or bool(keys_of(spec.api_key))

    def facts(self, spec: Any) -> BedrockRegion:
        """Raises ValueError that begins with the field's name."""
        place = self.placed(spec, spec.api_key)
        found = (place.origin, place.prefix, place.heads, place.secrets, place.params, place.source)
        return BedrockRegion(*found, _way(spec))

    def path(self, target: Target, call: Call, spoken: str) -> str:
        """Raises BadRequest for a model that Bedrock could not have."""
        model = self.named(target, call)
        if spoken == "bedrock.count_tokens":
            return f"/model/{_PROFILE.sub('', model)}/count-tokens"
        whole, streamed = _OPERATIONS[spoken]
        return f"/model/{model}/{streamed if call.stream else whole}"


def _way(spec: AwsEndpoint) -> str:
    """What must be asked in Converse's words, as guardrails, leaves that way alone. Raises ValueError."""
    own = sorted(OWN & spec.params.keys())
    if own and spec.messages == "invoke":
        raise ValueError(
            f"messages: invoke has no place for {own[0]} of params; write converse, or leave one out"
        )
    return "converse" if own else spec.messages
