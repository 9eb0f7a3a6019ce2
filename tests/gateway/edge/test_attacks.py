"""What the open internet sends: on a raw socket, at both ports. Each is refused cleanly and reaches nobody."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import ACCESS, KEY, Running, gateway, policies, until_idle
from tests.scripted import CHAT, Provider, answer

CANARY = "sk-provider-canary-0123456789"
BODY = json.dumps({"model": "smart", "messages": [{"role": "user", "content": "hi"}]})
CHAT_PATH = "/v1/chat/completions"


@dataclass
class Told:
    """What came back before the connection was closed or went silent; status 0 for nothing at all."""

    status: int
    head: bytes
    body: bytes


async def say(port: int, raw: bytes, wait: float = 5.0) -> Told:
    """Send these bytes and read one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(wait):
            writer.write(raw)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return Told(0, b"", b"")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            return Told(int(head.split(b" ", 2)[1]), head, body)
    finally:
        writer.close()


def post(
    body: str | bytes = BODY,
    *headers: str,
    path: str = CHAT_PATH,
    host: str | None = "gateway.test",
    length: bool = True,
    key: str = KEY,
) -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    lines = [f"POST {path} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += [
        "Content-Type: application/json",
        *([f"Content-Length: {len(raw)}"] if length else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + raw


def get(path: str, *headers: str, host: str = "gateway.test") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode("latin-1")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as one:
        yield one


@pytest.fixture
async def running(tmp_path: Path, provider: Provider) -> AsyncIterator[Running]:
    text = policies(provider.url).replace(
        f'base_url: "{provider.url}"', f'base_url: "{provider.url}", api_key: "{CANARY}"'
    )
    async with gateway(tmp_path, text, header_timeout=0.5, body_timeout=0.5, max_body=1 << 20) as one:
        yield one


def admin_port(running: Running) -> int:
    return int(running.admin_url.rsplit(":", 1)[1])


async def is_well(running: Running) -> bool:
    return (await running.chat()).status_code == 200


MALFORMED = {
    "a host that holds a path": post(host="a/health?x="),
    "a host with a question mark": post(host="foo?"),
    "a host with a fragment": post(host="foo#"),
    "two hosts": post(BODY, "Host: other.test"),
    "no host": post(host=None),
    "an absolute target": post(path="http://other.test/v1/chat/completions"),
    "a double slash": post(path="//v1/chat/completions"),
    "a path that climbs": post(path="/v1/../v1/chat/completions"),
    "an encoded climb": post(path="/v1/%2e%2e/v1/chat/completions"),
    "an encoded slash": post(path="/v1%2fchat/completions"),
    "a semicolon": post(path="/v1/chat/completions;x"),
    "a NUL in the path": post(path="/v1/chat/completions%00"),
    "an encoded line break in the path": post(path="/v1/files/x%0D%0Ay"),
    "a climb out of an object": post(path="/v1/files/..%2f..%2fadmin"),
    "length beside chunks": post(BODY, "Transfer-Encoding: chunked"),
    "two lengths": post(BODY, f"Content-Length: {len(BODY)}"),
    "a signed length": post(BODY, f"Content-Length: +{len(BODY)}", length=False),
    "a length with an underscore": post(BODY, "Content-Length: 0_5", length=False),
    "a blank before the colon": post(BODY, f"Content-Length : {len(BODY)}", length=False),
    "an unknown coding": post(BODY, "Transfer-Encoding: xchunked", length=False),
    "two codings": post(BODY, "Transfer-Encoding: gzip, chunked", length=False),
    "chunked and identity": post(BODY, "Transfer-Encoding: chunked, identity", length=False),
    "a folded header": post(BODY, "X-A: one\r\n two"),
    "a bare line feed": post(BODY).replace(b"Content-Type", b"X: y\nContent-Type"),
    "a NUL in a header": post(BODY, "X-A: a\0b"),
    "a chunk size in hexadecimal words": post("0x5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False),
    "a chunk that does not end": post("5\r\nhelloX\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False),
    "two credentials of one kind": post(BODY, f"Authorization: Bearer {KEY}"),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64) + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("port", ["data", "admin"])
async def test_what_is_no_sound_http_is_refused_on_both_ports(
    running: Running, provider: Provider, name: str, port: str
) -> None:
    told = await say(running.port if port == "data" else admin_port(running), MALFORMED[name])
    assert told.status == 400
    assert provider.asked == []
    assert await is_well(running)


@pytest.mark.parametrize("port", ["data", "admin"])
async def test_a_head_of_100_kilobytes_or_a_thousand_headers_is_a_431(running: Running, port: str) -> None:
    number = running.port if port == "data" else admin_port(running)
    for raw in (post(BODY, "X-A: " + "a" * 100_000), post(BODY, *(f"X-{n}: a" for n in range(1000)))):
        assert (await say(number, raw)).status == 431
    assert await is_well(running)


REFUSED_KEYS = {
    "none": "",
    "SQL": "' UNION SELECT 1--",
    "an unknown one": "sk-unknown",
    "one beyond ASCII": "sk-\xfc\xe9",
    "one in the query": "",
}


@pytest.mark.parametrize("name", REFUSED_KEYS)
async def test_a_bad_key_is_a_401_that_repeats_nothing(
    running: Running, provider: Provider, name: str
) -> None:
    path = CHAT_PATH + (f"?api_key={KEY}" if name == "one in the query" else "")
    told = await say(running.port, post(path=path, key=REFUSED_KEYS[name]))
    assert (told.status, set(json.loads(told.body)["error"])) == (401, {"message", "type", "param", "code"})
    assert not REFUSED_KEYS[name] or REFUSED_KEYS[name].encode("latin-1") not in told.body
    assert provider.asked == []


async def test_two_different_keys_are_a_400(running: Running) -> None:
    assert (await say(running.port, post(BODY, "x-api-key: sk-other"))).status == 400


@pytest.mark.parametrize("path", ["/admin/v1/keys", "/%61dmin/v1/keys", "/ADMIN/v1/keys", "/metrics"])
@pytest.mark.parametrize("header", ["X-Original-URL: /health/live", "X-HTTP-Method-Override: GET", "X-A: b"])
async def test_the_admin_api_opens_to_its_token_alone(running: Running, path: str, header: str) -> None:
    at_admin = await say(admin_port(running), get(path, header, f"Authorization: Bearer {KEY}"))
    at_data = await say(running.port, get(path, header, f"Authorization: Bearer {running.token}"))
    # From loopback metrics take no token, but of who asks this machine by a name that a page may have.
    assert at_admin.status in (401, 403, 404)
    assert at_data.status in (401, 404)
    assert CANARY.encode() not in at_admin.body + at_data.body


DEEP = '{"model": "smart", "messages": ' + "[" * 100_000 + "]" * 100_000 + "}"
BODIES: dict[str, str | bytes] = {
    "a depth of 100,000": DEEP,
    "no JSON": '{"model": "smart", "messages": [',
    "a list": "[1]",
    "a number that is none": BODY.replace('"hi"', "NaN"),
    "two models": '{"model": "mini", ' + BODY[1:],
    "two models, one with an escape": '{"mod\\u0065l": "mini", ' + BODY[1:],
    "bytes that are no UTF-8": BODY.encode().replace(b"hi", b"\xff\xfe"),
    "half a million values": '{"x": [' + "[]," * 251_000 + "0], " + BODY[1:],
    "UTF-16": BODY.encode("utf-16"),
    "a lone surrogate": BODY.replace("hi", "\\ud800"),
    "a billion choices": '{"n": 1000000000, ' + BODY[1:],
    "a bound below nothing": '{"max_tokens": -1, ' + BODY[1:],
    "a bound of 10^18": '{"max_tokens": 1000000000000000000, ' + BODY[1:],
    "a model's name of a megabyte": BODY.replace("smart", "s" * 900_000),
    "no model": BODY.replace('"model": "smart", ', ""),
    "a stream that is no boolean": '{"stream": "yes", ' + BODY[1:],
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_means_no_call_is_a_400_in_the_callers_words(
    running: Running, provider: Provider, name: str
) -> None:
    told = await say(running.port, post(BODIES[name]))
    assert (told.status, set(json.loads(told.body)["error"])) == (400, {"message", "type", "param", "code"})
    assert len(told.body) < 1000
    assert provider.asked == []


OTHERWISE = {
    CHAT_PATH: ('{"model": "mini", "MODEL": "smart", "Max_Tokens": 1000000000, "messages": []}', "MODEL"),
    "/v1/messages": ('{"model": "mini", "messages": [], "max_tokens": 1, "Max_Tokens": 9}', "Max_Tokens"),
    "/v1/images/generations": ('{"model": "mini", "prompt": "x", "Model": "smart"}', "Model"),
    "/v1beta/models/mini:generateContent": (
        '{"contents": [], "generationConfig": {"MaxOutputTokens": 9}}',
        "MaxOutputTokens",
    ),
}


@pytest.mark.parametrize("path", OTHERWISE)
async def test_a_name_in_other_letters_is_a_400_that_tells_it(
    running: Running, provider: Provider, path: str
) -> None:
    """A server in Go reads the last of those that differ in case alone."""
    body, name = OTHERWISE[path]
    told = await say(running.port, post(body, key="sk-poor", path=path))
    assert told.status == 400
    assert f"'{name}' must be written '" in json.loads(told.body)["error"]["message"]
    assert provider.asked == []


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/messages", "/v1/responses", "/v1/moderations"])
@pytest.mark.parametrize(
    "name",
    [
        "api_base",
        "base_url",
        "api_key",
        "extra_headers",
        "model_list",
        "router_settings_override",
        "user_config",
    ],
)
async def test_where_a_call_goes_is_not_the_clients_to_say(
    running: Running, provider: Provider, path: str, name: str
) -> None:
    call = {"model": "smart", "messages": [], "input": "hi", "max_tokens": 9, name: "http://127.0.0.1:1"}
    told = await say(running.port, post(json.dumps(call), path=path))
    assert (told.status, name in json.loads(told.body)["error"]["message"]) == (400, True)
    assert provider.asked == []


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("name", ["n_predict", "n_cmpl"])
async def test_a_bound_by_a_name_that_nobody_checks_is_a_400(
    running: Running, provider: Provider, path: str, name: str
) -> None:
    """llama.cpp obeys it before the one of its API, past what the team may ask for."""
    call = {"model": "mini", "messages": [], "input": "hi", "prompt": "hi", "max_tokens": 9, name: 10**6}
    told = await say(running.port, post(json.dumps(call), path=path, key="sk-poor"))
    assert (told.status, name in json.loads(told.body)["error"]["message"]) == (400, True)
    assert provider.asked == []


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
async def test_a_compressed_body_is_a_415(running: Running, provider: Provider, coding: str) -> None:
    assert (await say(running.port, post(BODY, f"Content-Encoding: {coding}"))).status == 415
    assert provider.asked == []


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        ("PUT", CHAT_PATH, "GET, POST"),
        ("PUT", "/v1/responses", "GET, POST"),
        ("DELETE", "/v1/files", "GET, POST"),
        ("GET", "/v1/embeddings", "POST"),
        ("GET", "/v1/messages", "POST"),
        ("GET", "/v1/messages/count_tokens", "POST"),
        ("GET", "/v2/rerank", "POST"),
        ("GET", "/v1beta/models/smart:generateContent", "POST"),
        ("PUT", "/v1/models/smart:generateContent", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/v1beta/models", "GET, HEAD"),
        ("DELETE", "/v1/models/smart", "GET, HEAD"),
        ("PUT", "/health/live", "GET, HEAD"),
    ],
)
async def test_a_405_names_what_the_path_takes(running: Running, method: str, path: str, taken: str) -> None:
    raw = get(path, f"Authorization: Bearer {KEY}").replace(b"GET", method.encode(), 1)
    told = await say(running.port, raw)
    assert told.status == 405
    assert f"\r\nallow: {taken}\r\n".encode() in told.head
    assert f"does not take {method}; it takes {taken}" in told.body.decode()


@pytest.mark.parametrize(("path", "status"), [("/v1/messages/batches", 404), ("/v1/messages", 405)])
async def test_a_path_without_a_route_is_told_with_the_id_of_the_request(
    running: Running, path: str, status: int
) -> None:
    told = await say(running.port, get(path))
    ident = json.loads(told.body)["request_id"]
    assert told.status == status
    assert f"\r\nx-request-id: {ident}\r\n".encode() in told.head
    assert re.fullmatch("[0-9a-f]{32}", ident)
    theirs = await say(running.port, get(path, "X-Request-Id: mine"))
    assert json.loads(theirs.body)["request_id"] == "mine"


async def test_a_head_that_comes_again_lifts_no_bound(tmp_path: Path) -> None:
    """Its door has been passed before; the body behind it has not."""
    async with (
        Provider([answer(CHAT)]) as provider,
        gateway(tmp_path, policies(provider.url), max_body=1000) as running,
        running.client() as client,
    ):
        for size, status in ((10, 200), (10, 200), (2000, 413)):
            call = {"model": "smart", "messages": [{"role": "user", "content": "x" * size}]}
            assert (await client.post("/v1/chat/completions", json=call)).status_code == status


async def test_a_body_past_the_bound_is_a_413_before_it_is_read(running: Running) -> None:
    raw = post(b"", "Content-Length: 999999999", length=False)
    assert (await say(running.port, raw)).status == 413


@pytest.mark.parametrize("port", ["data", "admin"])
@pytest.mark.parametrize("slow", [b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n", post()[:-10]])
async def test_a_client_that_stalls_is_dropped(running: Running, port: str, slow: bytes) -> None:
    number = running.port if port == "data" else admin_port(running)
    told = await say(number, slow, wait=10.0)
    assert told.status in (0, 401, 404, 408)
    assert await is_well(running)


async def trickle(running: Running, body: bytes, size: int) -> bytes:
    """Send a body in pieces of this size, fifty a second; what was answered, b"" for nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write(post(b"", f"Content-Length: {len(body)}", length=False))
        for at in range(0, len(body), size):
            if reader.at_eof() or writer.is_closing():
                return b""
            writer.write(body[at : at + size])
            await asyncio.sleep(0.02)
        return await reader.readuntil(b"\r\n")
    finally:
        writer.close()


async def test_a_body_that_comes_in_drips_holds_no_place(running: Running, provider: Provider) -> None:
    async with asyncio.timeout(20):
        told = await asyncio.gather(*(trickle(running, BODY.encode().ljust(10_000), 1) for _ in range(3)))
        assert told == [b""] * 3
        await until_idle(running)
    assert provider.asked == []
    assert await is_well(running)


async def test_a_body_that_only_takes_its_time_is_served(running: Running) -> None:
    async with asyncio.timeout(20):
        assert await trickle(running, BODY.encode().ljust(15_000), 200) == b"HTTP/1.1 200 OK\r\n"


async def test_lines_cannot_be_smuggled_into_the_answer_or_the_log(
    tmp_path: Path, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    provider.script = [answer(CHAT, x_request_id="up\x1b[31m"), answer(CHAT)]  # the first is a broken answer
    async with gateway(
        tmp_path, policies(provider.url, model="strategy: priority"), log_level="info"
    ) as running:
        odd = 'smart\\r\\nSet-Cookie: a=b\\u001b[31m{\\"level\\":\\"error\\"}'
        metadata = 'x-gateway-metadata: {"user": "a\\nb\\u0000"}'
        first = await say(running.port, post(BODY.replace("smart", odd), metadata))
        second = await say(
            running.port, post(BODY, metadata, "x-request-id: a b;c", f"traceparent: {'0' * 55}")
        )
        assert (first.status, second.status) == (404, 200)
        assert b"set-cookie" not in first.head.lower() + second.head.lower()
        assert b"\x1b" not in first.head + second.head + first.body
    lines = capfd.readouterr().err.splitlines()
    assert lines
    assert all(json.loads(line)["msg"] in ("call", "refused") for line in lines if '"info"' in line)
    assert not any("\x1b" in line for line in lines)


async def test_what_the_client_sends_beside_the_call_stays_here(running: Running, provider: Provider) -> None:
    told = await say(
        running.port,
        post(
            BODY,
            "Cookie: secret=1", "x-api-key: " + KEY, "X-Forwarded-For: 10.0.0.1", "Proxy-Authorization: Basic x",
            "Helicone-Target-URL: http://127.0.0.1:1", "x-portkey-custom-host: http://127.0.0.1:1", "TE: trailers",
            "Connection: authorization, keep-alive", "openai-organization: org-theirs",
        ),
    )  # fmt: skip
    assert told.status == 200
    (asked,) = provider.asked
    assert asked.headers["authorization"] == f"Bearer {CANARY}"
    kept = {"host", "authorization", "accept-encoding", "content-type", "content-length"}
    assert set(asked.headers) == kept


async def test_what_the_provider_sends_beside_the_answer_stays_here(
    running: Running, provider: Provider
) -> None:
    provider.script = [
        answer(CHAT, set_cookie="a=b", server="nginx", openai_organization="org-ours", x_secret_key="k")
    ]
    told = await say(running.port, post())
    names = {line.split(b":")[0].lower() for line in told.head.split(b"\r\n")[1:] if line}
    assert names.isdisjoint({b"set-cookie", b"server", b"openai-organization", b"x-secret-key"})
    assert b"cache-control: private, no-store" in told.head
    assert b"vary: authorization" in told.head


async def test_a_redirect_of_the_provider_is_not_followed(running: Running, provider: Provider) -> None:
    async with Provider() as inside:
        provider.script = [answer(b"", 302, location=inside.url + "/chat/completions")]
        told = await say(running.port, post())
        assert told.status >= 300
        assert inside.asked == []


async def test_our_credential_in_a_providers_error_is_masked(running: Running, provider: Provider) -> None:
    provider.script = [answer({"error": {"message": f"bad key {CANARY}", "type": "x"}}, 400)]
    told = await say(running.port, post())
    assert (told.status, CANARY.encode() in told.body) == (400, False)
    assert b"***" in told.body


@pytest.mark.parametrize(
    "name",
    [
        "gemini-x%3F%0D%0AX-Evil:%201%0D%0A",
        "gemini-x%0D%0AX-Evil:%201",
        "gemini-x%3Fkey=1",
        "gemini-x%23y",
        "gemini-x%20y",
        "gemini-x%C3%A9",
        "gemini-x%7F",
    ],
)
async def test_a_models_name_in_the_path_cannot_write_the_providers_head(
    tmp_path: Path, provider: Provider, name: str
) -> None:
    host = provider.url.removesuffix("/v1")
    providers = f"kind: providers\nproviders: {{g: {{type: gemini, api_key: k, base_url: '{host}'}}}}\n"
    models = 'kind: models\nmodels: {"gemini-*": {targets: [{provider: g}]}}\n'
    provider.script = [answer({"candidates": []})]
    async with gateway(tmp_path, f"{providers}---\n{models}---\n{ACCESS}") as one:
        told = await say(one.port, post('{"contents": []}', path=f"/v1beta/models/{name}:generateContent"))
    heads = [(asked.line, asked.headers) for asked in provider.asked]
    assert (told.status, heads) == (400, [])
