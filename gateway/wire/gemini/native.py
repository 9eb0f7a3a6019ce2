"""A conversation without what other providers' models signed in it, as one that had to change to Google's: it refuses
a signature that is none of its own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.core.exchange import Call
from gateway.wire.base import Changes
from gateway.wire.gemini.words import FOREIGN, is_signed
from gateway.wire.sides import Json
from gateway.wire.thoughts import unpacked
from gateway.wire.written import exactly

_SIGNATURES = ("thoughtSignature", "thought_signature")
_CALLS = ("functionCall", "function_call")


def native(call: Call, changes: Changes) -> Json:
    """The members of the body that the model can use only in other words: its contents, or none. Calls that it did not
    make go with Google's stand-in for a signature, where it wants one."""
    assert isinstance(call.body, bytes)
    contents = exactly(call.payload, call.body).get("contents")
    kept = _each(contents, _own) if isinstance(contents, list) else contents
    if not kept or kept == contents:
        return {}
    if changes.left_out is not None:
        changes.left_out.append("contents.thought")
    return {"contents": _each(kept, _with_signed_call) if is_signed(changes.model) else kept}


def _each(contents: Iterable[Any], change: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """What the model said with its parts changed; nothing of what has none left."""
    kept = []
    for content in contents:
        parts = content.get("parts") if isinstance(content, dict) else None
        if isinstance(parts, list) and content.get("role") == "model":
            content = {**content, "parts": change(parts)}
            if parts and not content["parts"]:
                continue
        kept.append(content)
    return kept


def _own(parts: list[Any]) -> list[Any]:
    """A thought goes with its signature, and with the pieces that it was streamed in; of what else bears one only the
    signature does."""
    kept: list[Any] = []
    for part in parts:
        if not _is_foreign(part):
            kept.append(part)
        elif not part.get("thought"):
            kept.append({name: value for name, value in part.items() if name not in _SIGNATURES})
        else:
            while kept and _is_piece(kept[-1]):
                kept.pop()
    return kept


def _is_foreign(part: Any) -> bool:
    return isinstance(part, dict) and unpacked(str(_signature(part))) is not None


def _is_piece(part: Any) -> bool:
    return isinstance(part, dict) and bool(part.get("thought")) and not _signature(part)


def _signature(part: Mapping[str, Any]) -> Any:
    return next((part[name] for name in _SIGNATURES if part.get(name)), None)


def _with_signed_call(parts: list[Any]) -> list[Any]:
    """The first call of a step must have a signature (`FOREIGN`, in `words`)."""
    for place, part in enumerate(parts):
        if isinstance(part, dict) and any(part.get(name) for name in _CALLS):
            signed: Json = part if _signature(part) else {**part, _SIGNATURES[0]: FOREIGN}
            return [*parts[:place], signed, *parts[place + 1 :]]
    return parts
