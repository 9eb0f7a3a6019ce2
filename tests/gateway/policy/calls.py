"""Calls as rules see them."""

from collections.abc import Mapping

from gateway.core.exchange import NO_SHAPE, Call, Caller, Exchange, Shape, Target

NO_METADATA: Mapping[str, str] = {}


def exchange(
    *,
    model: str = "gpt-5",
    key: str = "ci",
    team: str = "free",
    user: str = "",
    metadata: Mapping[str, str] = NO_METADATA,
    shape: Shape = NO_SHAPE,
    stream: bool = False,
    clock: float = 1_800_000_000.0,
    configured: str = "",
) -> Exchange:
    call = Call("chat", "openai.chat", "POST", "/chat/completions", b"{}", {}, model, stream)
    made = Exchange("id", call, Caller(key, team, user, metadata), "id", 0.0, clock, shape)
    made.model = configured or model
    return made


def target(name: str, weight: int = 1) -> Target:
    provider, _, model = name.partition("/")
    return Target(name, provider, "compatible", "openai.chat", model.replace("*", ""), None, weight)
