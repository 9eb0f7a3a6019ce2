"""Where a call goes: the targets of its lane that can be used, in their order, each with the call in its words. It is
decided here for calls that are served and for dry runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Target
from gateway.core.fact import fact
from gateway.core.failure import BadRequest
from gateway.policy.base import Dice, Health
from gateway.policy.capabilities import able
from gateway.providers.base import Provider
from gateway.providers.registry import PROVIDERS, serves
from gateway.wire.base import Changes, Way
from gateway.wire.chat import CAPS
from gateway.wire.raw import Raw, bound_of
from gateway.wire.registry import DIALECTS, between
from gateway.wire.thoughts import holds_foreign

# Routes where a model writes: its output may be bounded, and it has the defaults of its provider.
WRITES = ("chat", "completions", "responses", "messages", "generate")
# Where a model works that does not write: of the defaults it has those that are not about writing.
_WORKS = ("audio", "embeddings", "images", "moderations", "rerank", "videos")
_OF_WRITING = frozenset(
    {
        *CAPS, "chat_template_kwargs", "frequency_penalty", "generationConfig", "inferenceConfig", "logit_bias",
        "logprobs", "max_output_tokens", "min_p", "n", "parallel_tool_calls", "presence_penalty",
        "prompt_cache_key", "reasoning", "reasoning_effort", "repetition_penalty", "response_format",
        "safetySettings", "seed", "service_tier", "stop", "stop_sequences", "store", "temperature",
        "text", "thinking", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "verbosity",
    }
)  # fmt: skip
# What formats other than chat call the bound, whatever their provider calls chat's.
_CAP_NAMES = {"openai.responses": "max_output_tokens", "openai.completions": "max_tokens"}
# What calls say their bound in, and which of these their own dialect reads (chat's, where none is named).
_BOUNDS = (
    *CAPS,
    "max_output_tokens",
    "maxOutputTokens",
    "generationConfig",
    "generation_config",
    "inferenceConfig",
)
_OWN = {
    "openai.responses": ("max_output_tokens",),
    "anthropic.messages": ("max_tokens",),
    "gemini.generate": ("generationConfig", "generation_config"),
    "gemini.array": ("generationConfig", "generation_config"),
}


def usable(exchange: Exchange, lane: Lane, health: Health, dice: Dice) -> Sequence[Target]:
    """In the selector's order: those whose condition holds, and of several only those that can serve the call, unless
    none of them can."""
    order: Sequence[Target] = lane.targets
    if len(order) > 1:
        order = lane.selector.order(exchange, order, health, dice)
    elif order[0].condition is None:
        return order
    met = [target for target in order if meets(target, exchange)]
    if len(met) < 2:
        return met
    call = exchange.call
    return able(exchange, [target for target in met if serves(call.dialect, call.model, target)] or met)


def meets(target: Target, exchange: Exchange) -> bool:
    """Whether a target's own condition lets this call through."""
    return target.condition is None or target.condition(exchange)


def way_of(call: Call, target: Target) -> Way:
    """In the client's own dialect where the provider speaks it, else across to the provider's."""
    provider = PROVIDERS[target.kind]
    dialect = call.dialect
    spoken = provider.speaks(dialect, target.asked(call.model), target.facts)
    return DIALECTS[dialect] if spoken == dialect else between(dialect, spoken)


@fact
class Prepared:
    """A call in the words of one target. `dropped` names the fields that its format has no place for."""

    way: Way
    body: bytes
    asks_usage: bool  # of a stream whose client did not ask for it
    dropped: list[str]


def prepare(exchange: Exchange, lane: Lane, target: Target, *, leniently: bool) -> Prepared:
    """Raises BadRequest where it cannot be put in the target's words; `leniently` only where nothing would be left
    of it."""
    call = exchange.call
    dropped: list[str] = []
    way = way_of(call, target)
    asks = call.stream and target.ask_usage and not way.gives_usage(call.payload)
    if not isinstance(call.body, bytes) or not call.payload:
        return Prepared(way, call.body if isinstance(call.body, bytes) else b"", asks, dropped)
    provider, plain = PROVIDERS[target.kind], call
    model, params = target.asked(call.model), provider.params(target.facts)
    cap = lane.team.max_output_tokens
    if params or cap is not None:
        cap_name = _cap_name(call, way, provider)
        if not cap_name:
            params = _working(call, params)
        else:
            params = _bounded(params, exchange, cap, cap_name)
            plain = _plain(call, dropped) if way.crosses and cap is not None else call
    rewritten = way.crosses or asks or params or model != call.model
    if not rewritten and not holds_foreign(way.name, call.body):
        return Prepared(way, call.body, asks, dropped)  # the very same bytes
    changes = Changes(model, asks, params, left_out=dropped)
    if way.crosses:
        lost = dropped if leniently else None
        changes = changes._replace(cap_name=provider.cap_name, dropped=lost, quirks=provider.quirks)
    return Prepared(way, way.write(plain, changes), asks, dropped)


class Course:
    """The targets of a call in their order, each with the call in its words and whether it is the last. One that
    cannot carry all of the call is passed over; should others fail, it is tried at the end, with what it can carry.
    """

    def __init__(self, exchange: Exchange, lane: Lane, targets: Sequence[Target]) -> None:
        self._exchange, self._lane, self._targets = exchange, lane, targets
        self.failed = False  # set by whoever has tried a target, or could not
        self.refusals: list[tuple[Target, BadRequest]] = []  # why those that were passed over were

    def __iter__(self) -> Iterator[tuple[Target, Prepared, bool]]:
        targets = list(self._targets)
        first = len(targets)
        for place, target in enumerate(targets):  # it grows by those that are passed over
            if place >= first and not self.failed:
                return
            try:
                prepared = prepare(self._exchange, self._lane, target, leniently=self.failed)
            except BadRequest as error:
                self.refusals.append((target, error))
                if not self.failed:
                    targets.append(target)
            else:
                yield target, prepared, place == len(targets) - 1

    def refused(self) -> BadRequest | None:
        """What the client is told where no target can carry the call: what is in the way at the first."""
        if self.failed or not self.refusals:
            return None
        target, error = self.refusals[0]
        named = target.asked_name(self._exchange.call.model)
        return BadRequest(f"{error.message} (target {named})", code=error.code, param=error.param)


def _cap_name(call: Call, way: Way, provider: Provider) -> str:
    """What the call's output is bounded by, in the words it is put in; "" where no model writes."""
    if call.dialect == Raw.name:
        return bound_of(call)
    return _CAP_NAMES.get(way.name, provider.cap_name) if call.route in WRITES else ""


def _working(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The provider's defaults for a call in which no model writes."""
    if call.route not in _WORKS:
        return {}
    return {name: value for name, value in params.items() if name not in _OF_WRITING}


def _bounded(
    params: Mapping[str, Any], exchange: Exchange, cap: int | None, cap_name: str
) -> Mapping[str, Any]:
    """The provider's defaults; their bound, under any name, makes way for the call's own, else for the team's."""
    is_bound = exchange.shape.max_tokens > 0
    if cap is None and not is_bound:
        return params
    kept = {name: value for name, value in params.items() if name not in (*CAPS, cap_name)}
    return kept if is_bound else {**kept, cap_name: cap}


def _plain(call: Call, dropped: list[str]) -> Call:
    """The call without bounds that its dialect does not read: in the words of its provider they might count."""
    foreign = set(_BOUNDS).difference(_OWN.get(call.dialect, CAPS)) & call.payload.keys()
    if not foreign:
        return call
    dropped += sorted(name for name in foreign if call.payload[name])
    return replace(call, payload={name: one for name, one in call.payload.items() if name not in foreign})
