"""A fast fake OpenAI upstream: bare callbacks on uvloop and httptools, so that it is never what is measured.

The model's name says how it behaves: `sse-N-MS` streams N events, one each MS milliseconds; `slow-MS` answers
after MS; `hang` never does; anything else is answered at once. GET /__stats__ tells what it saw.
"""

import asyncio
import json
import sys
from typing import Any

import httptools
import uvloop

TEXT = "The customer sees a timeout on the invoice page when more than 200 items are listed. " * 6
WHOLE = json.dumps(
    {
        "id": "chatcmpl-9wXyZabcDEF1234567890", "object": "chat.completion", "created": 1721075653,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT, "refusal": None},
                     "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 212, "completion_tokens": 98, "total_tokens": 310,
                  "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}},
    }
).encode()  # fmt: skip
# The headers of OpenAI's answers, and how they are framed: in chunks, for all comes through a proxy of theirs.
HEAD = """\
HTTP/1.1 200 OK
date: Tue, 31 Mar 2026 14:04:58 GMT
content-type: {}
transfer-encoding: chunked
connection: keep-alive
server: cloudflare
access-control-expose-headers: X-Request-ID
openai-organization: user-9wxyzabcdef1234567890
openai-processing-ms: 842
openai-project: proj_9wXyZabcDEF1234567890
openai-version: 2020-10-01
x-envoy-upstream-service-time: 860
x-ratelimit-limit-requests: 10000
x-ratelimit-limit-tokens: 200000
x-ratelimit-remaining-requests: 9999
x-ratelimit-remaining-tokens: 199000
x-ratelimit-reset-requests: 8.64s
x-ratelimit-reset-tokens: 3ms
x-request-id: req_9f0123456789abcdef0123456789abcd
strict-transport-security: max-age=31536000; includeSubDomains; preload
cf-cache-status: DYNAMIC
x-content-type-options: nosniff
cf-ray: 9e4fe7fb28bd911c-LHR
alt-svc: h3=":443"; ma=86400

"""


def _head(media: str) -> bytes:
    return HEAD.format(media).replace("\n", "\r\n").encode()


ANSWER = _head("application/json") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(WHOLE), WHOLE)
STREAM_HEAD = _head("text/event-stream; charset=utf-8")


def _event(choices: list[Any], **more: Any) -> bytes:
    chunk = {
        "id": "chatcmpl-9wXyZabcDEF",
        "object": "chat.completion.chunk",
        "created": 1721075653,
        "model": "m",
    }
    data = b"data: " + json.dumps({**chunk, "choices": choices, **more}).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _delta(content: str, finish: str | None, with_usage: bool) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish}
    return _event([choice], **({"usage": None} if with_usage else {}))


WORD = {usage: _delta(" token", None, usage) for usage in (True, False)}
LAST = {usage: _delta("", "stop", usage) for usage in (True, False)}
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Stats:
    """Counts since the start: requests, streams among them, answers sent whole; connections open now."""

    requests = 0
    streams = 0
    finished = 0
    open = 0


class Protocol(asyncio.Protocol):
    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._url = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._stats.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._stats.open -= 1
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        stats = self._stats
        if self._url == b"/__stats__":
            names = ("requests", "streams", "finished", "open")
            told = json.dumps({name: getattr(stats, name) for name in names}).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
            return
        stats.requests += 1
        model = self._model()
        if model.startswith("sse-"):
            self._stream(model)
        elif model.startswith("slow-"):
            self._timer = asyncio.get_running_loop().call_later(int(model[5:]) / 1000, self._answer)
        elif model != "hang":
            self._answer()

    def _model(self) -> str:
        start = self._body.find(b'"model"')
        return self._body[start + 7 : start + 80].split(b'"')[1].decode() if start >= 0 else ""

    def _answer(self) -> None:
        self._stats.finished += 1
        self._transport.write(ANSWER)

    def _stream(self, model: str) -> None:
        self._stats.streams += 1
        _, count, pace = model.split("-")
        with_usage = b"include_usage" in self._body
        self._transport.write(STREAM_HEAD)
        self._tick(int(count), int(pace) / 1000, asyncio.get_running_loop().time(), with_usage)

    def _tick(self, left: int, pace: float, due: float, with_usage: bool) -> None:
        if pace:
            if left:
                self._transport.write(WORD[with_usage])
                # By the plan, not by when the last one got its turn: a busy machine must not slow the load.
                self._timer = asyncio.get_running_loop().call_at(
                    due + pace, self._tick, left - 1, pace, due + pace, with_usage
                )
                return
        else:
            self._transport.write(WORD[with_usage] * left)
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        end = LAST[with_usage] + (_event([], usage=usage) if with_usage else b"") + DONE
        self._stats.finished += 1
        self._transport.write(end)


async def serve(port: int) -> None:
    """Serve until cancelled."""
    stats = Stats()
    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(stats), "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
