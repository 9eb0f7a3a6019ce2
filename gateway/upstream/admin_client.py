"""The commands' requests to the admin API, by httpx: none is hot."""

from typing import Any

import httpx


class NoAnswer(Exception):
    """No answer came; the message says why in a word or two."""


def ask(
    base_url: str, method: str, path: str, token: str, body: Any = None, seconds: float = 30.0
) -> tuple[int, Any]:
    """(status, JSON answer; None for none) of one request. Raises NoAnswer. Proxies of the environment are
    not used: the admin API is near."""
    # Whatever stands there is sent: the gateway tells what is no token of its.
    headers = {b"authorization": f"Bearer {token}".encode(errors="surrogateescape")} if token else {}
    try:
        with httpx.Client(base_url=base_url, headers=headers, timeout=seconds, trust_env=False) as client:
            answer = (
                client.request(method, path, json=body) if body is not None else client.request(method, path)
            )
            return answer.status_code, answer.json() if answer.content else None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(type(error).__name__) from None
    except ValueError:
        raise NoAnswer("the answer is no JSON") from None
