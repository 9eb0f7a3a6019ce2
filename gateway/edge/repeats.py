"""Requests whose head has been seen: an app that keeps its connection says the same head before each of its calls.

What the parser and `sanity` make of a head follows from its bytes alone, so that for the same bytes it need not be
found again (5 to 8 % of a call). Who asks and what they may is looked up each time.
"""

import re
from typing import Any, NamedTuple

from gateway.core.head import Head
from gateway.edge.asgi import Scope

_LENGTH = re.compile(rb"\r\ncontent-length: (\d{1,9})(?=\r\n)", re.IGNORECASE)


class Known(NamedTuple):
    """A head that was served: its bytes up to the digits of its content-length and behind them, the scope it made,
    and the same as the application left it."""

    before: bytes
    behind: bytes
    scope: dict[str, Any]
    served: Scope

    def again(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Scope and body of a whole request that differs from the one before in its body and the body's length
        alone; None for any other, which is the parser's to read."""
        before, behind, scope, served = self
        if not data.startswith(before):
            return None
        at = len(before)
        stop = data.find(b"\r", at, at + 10)
        digits, end = data[at:stop], stop + len(behind)
        if not (digits.isdigit() and data.startswith(behind, stop) and len(data) - end == int(digits)):
            return None
        head: Head | None = served.get("gateway.head")
        if head is None:  # `sanity` refused it
            return None
        scope = scope.copy()
        if head[b"content-length"] != digits:
            head = head.resized(digits)
            length = (b"content-length", digits)
            scope["headers"] = [length if pair[0] == length[0] else pair for pair in scope["headers"]]
        scope["gateway.head"] = head
        return scope, data[end:]


def known(data: bytes, scope: Scope) -> Known | None:
    """The head of a request that was parsed to its end and is not served yet; None where its length is not said in
    the usual way, or more than the request has come, or its body is packed, which is refused."""
    if any(name == b"content-encoding" for name, _ in scope["headers"]):
        return None
    end = data.find(b"\r\n\r\n") + 4
    lengths = list(_LENGTH.finditer(data, 0, end))
    if len(lengths) != 1 or len(data) - end != int(lengths[0][1]):
        return None
    start, stop = lengths[0].span(1)
    return Known(data[:start], data[stop:end], dict(scope), scope)
