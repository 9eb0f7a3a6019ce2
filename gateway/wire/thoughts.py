"""Signed thinking of one format on its way through a client of another: it must come back as it was signed."""

import base64
import binascii
from typing import Any

import orjson

_MARK = b"gatehouse:"


def packed(detail: dict[str, Any]) -> str:
    """A detail of `reasoning_details` but for its text, as base64: the shape that all signatures have."""
    kept = {name: value for name, value in detail.items() if name not in ("text", "index")}
    return base64.b64encode(_MARK + orjson.dumps(kept)).decode()


def unpacked(text: str) -> dict[str, Any] | None:
    """None for a signature that was not packed here."""
    try:
        # An SDK that keeps signatures as bytes may write them in the other alphabet.
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
        detail = orjson.loads(raw.removeprefix(_MARK)) if raw.startswith(_MARK) else None
    except (binascii.Error, ValueError):
        return None
    return detail if isinstance(detail, dict) else None
