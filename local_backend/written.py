"""JSON that stands within a text, as models and clients write it. Torch-free."""

import json
import math
from typing import Any


def loads(text: str, *, strict: bool = True) -> Any:
    """Its value, which can be written down again as JSON in UTF-8. Raises ValueError for what has none such: no JSON,
    halves of characters, numbers that are none or too large, what is nested too deeply."""
    try:
        found = json.loads(text, strict=strict, parse_constant=_refuse, parse_float=_finite)
        if "\\u" in text:
            dumps(found).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number} is too large")
    return found
