"""The provider types a policy file may name, one line each."""

from gateway.providers.base import Provider
from gateway.providers.compatible import ANTHROPIC_DIALECTS, Compatible
from gateway.providers.local import Local

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
    "compatible": Compatible(),
    "local": Local(),
    "openai": Compatible("https://api.openai.com/v1", needs_key=True, cap_name="max_completion_tokens"),
}
