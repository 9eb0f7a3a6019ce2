"""Hot paths first, by one dict look-up; families of paths by another; Starlette for the rest."""

from collections.abc import Awaitable, Mapping

from gateway.core.failure import GatewayError, NotFound, WrongMethod
from gateway.edge.asgi import App, Receive, Scope, Send
from gateway.wire.envelope import gemini_method

_POSTED = (
    "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens", "/v1/rerank", "/v2/rerank",
)  # fmt: skip


class Router:
    """`hot` is keyed by (method, path), `families` by the first segment after `/v1/`, `methods` by what follows
    a model's name and a colon, `rest` by path."""

    def __init__(
        self,
        hot: Mapping[tuple[str, str], App],
        families: Mapping[str, App],
        methods: Mapping[str, App],
        rest: App,
    ) -> None:
        self._hot, self._families, self._methods, self._rest = hot, families, methods, rest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path: str = scope["path"]
        app = self._hot.get((scope["method"], path))
        if app is None:
            app = self._rest
            if scope["method"] == "POST" and (method := gemini_method(path)):
                app = self._methods[method]
            elif path.startswith("/v1/"):
                app = self._families.get(path.split("/", 3)[2], self._rest)
        return app(scope, receive, send)


def unknown(scope: Scope) -> GatewayError:
    """Why a path leads nowhere."""
    path, method = scope["path"], scope["method"]
    if path in _POSTED or gemini_method(path):
        return WrongMethod(path, method, ("POST",))
    if path.startswith(("/v1/messages", "/v1beta/")):
        return NotFound(f"{method} {path} is not served by this gateway yet", code="route_not_found")
    return NotFound(f"there is no {method} {path} here", code="route_not_found")


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """The last application. Raises GatewayError."""
    raise unknown(scope)
