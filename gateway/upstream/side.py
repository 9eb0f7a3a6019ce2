"""httpx for everything that is not hot: the commands' talk with the admin API."""

import httpx


def client(base_url: str, token: str = "", seconds: float = 30.0) -> httpx.Client:
    """A client for JSON APIs; `base_url` may be `unix:PATH` for a socket."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = None
    if base_url.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=base_url.removeprefix("unix:"))
        base_url = "http://localhost"
    return httpx.Client(
        base_url=base_url, headers=headers, timeout=seconds, transport=transport, trust_env=False
    )
