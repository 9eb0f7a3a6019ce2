"""The provider types a policy file may name, one line each."""

from gateway.providers.base import Provider
from gateway.providers.compatible import Compatible
from gateway.providers.local import Local

PROVIDERS: dict[str, Provider] = {
    "compatible": Compatible(),
    "local": Local(),
    "openai": Compatible("https://api.openai.com/v1", needs_key=True, cap_name="max_completion_tokens"),
}
