"""The engine's HTTP face, as a program of its own, with the official SDK."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("torch", reason="torch is not installed: make .make/local")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bundled model on a unix socket; takes about two seconds to load torch."""
    socket = tmp_path_factory.mktemp("engine") / "engine.sock"
    command = [sys.executable, "-m", "local_backend", "--model", "bundled", "--listen", f"unix:{socket}"]
    process = subprocess.Popen([*command, "--exit-with-stdin"], stdin=subprocess.PIPE)
    try:
        wait_ready(socket)
        yield str(socket)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0, "the engine ends with its standard input"


def wait_ready(socket: Path) -> None:
    deadline = time.monotonic() + 60
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with client_of(str(socket)) as client:
        while client.get("/health").status_code != 200:
            assert time.monotonic() < deadline, "the engine did not become ready"
            time.sleep(0.05)


def client_of(socket: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://engine", timeout=60)


@pytest.fixture
def client(engine: str) -> Iterator[httpx.Client]:
    with client_of(engine) as client:
        yield client


def chat(client: httpx.Client, text: str, **more: object) -> httpx.Response:
    body = {"model": "bundled", "messages": [{"role": "user", "content": text}], **more}
    return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("What is Gatehouse?", "gateway"),
        ("How do I create a key?", "keys create"),
        ("what happens when a provider is down", "next target"),
        ("Does it need a GPU?", "CPU"),
        ("who wrote hamlet?", "small model"),
        ("Hello!", "Hello"),
    ],
)
def test_the_bundled_model_answers_sensibly(client: httpx.Client, question: str, word: str) -> None:
    answer = chat(client, question, temperature=0).json()["choices"][0]
    assert word in answer["message"]["content"]
    assert answer["finish_reason"] == "stop"


def test_an_answer_that_broke_off_is_finished_from_where_it_stands(client: httpx.Client) -> None:
    asked = {"role": "user", "content": "What is Gatehouse?"}
    whole = chat(client, asked["content"], temperature=0).json()["choices"][0]["message"]["content"]
    middle = whole.index(" ", len(whole) // 2)
    said, left = whole[:middle], whole[middle:]
    more = client.post(
        "/v1/chat/completions",
        json={
            "model": "bundled",
            "messages": [asked, {"role": "assistant", "content": said}],
            "continue_final_message": True,
            "temperature": 0,
        },
    ).json()
    assert more["choices"][0]["message"]["content"].split()[-3:] == left.split()[-3:]
    assert len(more["choices"][0]["message"]["content"]) < len(whole)


def test_the_official_sdk_chats_streams_and_lists(engine: str) -> None:
    import httpx2

    transport = httpx2.HTTPTransport(uds=engine)
    with openai.OpenAI(
        api_key="x", base_url="http://engine/v1", http_client=httpx2.Client(transport=transport)
    ) as sdk:
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
        whole = sdk.chat.completions.create(model="bundled", messages=messages, temperature=0)
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        parts = sdk.chat.completions.create(
            model="bundled",
            messages=messages,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(parts)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage or chunks[-1].usage is not None
        assert [model.id for model in sdk.models.list()] == ["bundled"]
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.embeddings.create(model="bundled", input="x")
        assert "no embeddings" in str(refused.value)


def test_stop_strings_cut_and_end(client: httpx.Client) -> None:
    whole = chat(client, "hello", temperature=0).json()["choices"][0]["message"]["content"]
    stop = whole[10:14]
    cut = chat(client, "hello", temperature=0, stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_a_seed_repeats_and_choices_differ(client: httpx.Client) -> None:
    asked = {"temperature": 2.0, "seed": 3, "n": 3, "max_tokens": 12}
    first, second = (chat(client, "xyz", **asked).json()["choices"] for _ in range(2))
    assert [one["message"] for one in first] == [one["message"] for one in second]
    assert len({one["message"]["content"] for one in first}) > 1


def test_a_biased_token_is_forced_or_never_drawn(client: httpx.Client) -> None:
    (wanted,) = client.post("/tokenize", json={"prompt": "x"}).json()["tokens"]
    asked = {"temperature": 0, "max_tokens": 6}
    forced = chat(client, "hello", logit_bias={wanted: 100}, **asked).json()["choices"][0]
    assert forced["message"]["content"] == "x" * 6
    scored = chat(client, "hello", logprobs=True, top_logprobs=1, **asked).json()["choices"][0]
    best = scored["logprobs"]["content"][0]["token"]
    (first,) = client.post("/tokenize", json={"prompt": best}).json()["tokens"]
    others = chat(client, "hello", logit_bias={first: -100}, **asked).json()["choices"][0]
    assert not others["message"]["content"].startswith(best)


@pytest.mark.parametrize(
    "penalty",
    [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"repetition_penalty": 2}],
    ids=lambda one: next(iter(one)),
)
def test_a_penalty_widens_the_choice_of_words(client: httpx.Client, penalty: dict[str, float]) -> None:
    asked = {"temperature": 0, "max_tokens": 60, "ignore_eos": True, "logprobs": True}
    plain, wider = (
        len(
            {
                token["token"]
                for token in chat(client, "count to five", **asked, **more).json()["choices"][0]["logprobs"][
                    "content"
                ]
            }
        )
        for more in ({}, penalty)
    )
    assert wider > plain


def test_min_tokens_holds_the_end_back(client: httpx.Client) -> None:
    plain, longer = (
        chat(client, "hello", temperature=0, max_tokens=120, **more).json()
        for more in ({}, {"min_tokens": 100})
    )
    assert plain["choices"][0]["finish_reason"] == "stop"
    assert plain["usage"]["completion_tokens"] < 100 <= longer["usage"]["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_told_for_each_token_of_each_choice(client: httpx.Client, stream: bool) -> None:
    asked = {"n": 2, "seed": 4, "temperature": 1.5, "max_tokens": 5, "ignore_eos": True}
    response = chat(client, "hello", logprobs=True, top_logprobs=3, stream=stream, **asked)
    choices = (
        [one for event in events(response.text) for one in event["choices"]]
        if stream
        else response.json()["choices"]
    )
    for index in (0, 1):
        told = [
            token
            for one in choices
            if one["index"] == index and one["logprobs"]
            for token in one["logprobs"]["content"]
        ]
        assert len(told) == 5
        for token in told:
            values = [other["logprob"] for other in token["top_logprobs"]]
            assert len(values) == 3
            assert values == sorted(values, reverse=True)
            assert token["logprob"] <= values[0] <= 0


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"temperature": 3}, "temperature"),
        ({"n": 10**9}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ],
)
def test_a_field_that_is_not_honoured_is_named(
    client: httpx.Client, body: dict[str, object], param: str
) -> None:
    response = (
        chat(client, "x", **body)
        if "messages" not in body
        else client.post("/v1/chat/completions", json=body)
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_prompt_too_long_tells_both_numbers(client: httpx.Client) -> None:
    response = chat(client, "word " * 3000)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "1023" in error["message"]


def test_a_client_that_leaves_frees_its_place(client: httpx.Client, engine: str) -> None:
    with client_of(engine) as leaver:
        body = {"model": "bundled", "prompt": "x", "max_tokens": 900, "stream": True, "ignore_eos": True}
        with leaver.stream("POST", "/v1/completions", json=body) as response:
            next(response.iter_bytes())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if (
            "backend_running 0\n" in (text := client.get("/metrics").text)
            and "backend_aborts_total 0" not in text
        ):
            return
        time.sleep(0.02)
        chat(client, "hi", max_tokens=1)
    raise AssertionError("the request of a client that left goes on")


def test_who_leaves_an_idle_engine_is_counted_no_more(client: httpx.Client, engine: str) -> None:
    def told() -> list[str]:
        names = ("backend_running ", "backend_kv_blocks_used ", "backend_waiting ")
        return [line for line in client.get("/metrics").text.splitlines() if line.startswith(names)]

    with client_of(engine) as leaver:
        body = {
            "model": "bundled",
            "prompt": ["x"] * 3,
            "max_tokens": 900,
            "stream": True,
            "ignore_eos": True,
        }
        with leaver.stream("POST", "/v1/completions", json=body) as response:
            next(response.iter_bytes())
    deadline = time.monotonic() + 5
    while not all(line.endswith(" 0") for line in told()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
    assert len(told()) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_one_call_may_have_more_prompts_than_can_wait(client: httpx.Client, stream: bool) -> None:
    body = {
        "model": "bundled",
        "prompt": ["a", "b"] * 150,
        "max_tokens": 1,
        "temperature": 0,
        "stream": stream,
    }
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200
    told = events(response.text) if stream else [response.json()]
    texts = [""] * 300
    for choice in (one for event in told for one in event["choices"]):
        texts[choice["index"]] += choice["text"]
    assert texts == texts[:2] * 150


def test_cached_tokens_of_all_prompts_are_told(client: httpx.Client) -> None:
    prompts = [f"{number} " * 40 for number in (71, 72, 73)]
    body = {"model": "bundled", "prompt": prompts, "max_tokens": 1, "n": 2}
    client.post("/v1/completions", json=body)
    alone = [client.post("/v1/completions", json={**body, "prompt": one}).json()["usage"] for one in prompts]
    together = client.post("/v1/completions", json=body).json()["usage"]
    cached = [one["prompt_tokens_details"]["cached_tokens"] for one in alone]
    assert min(cached) >= 16
    assert together["prompt_tokens_details"]["cached_tokens"] == sum(cached)
    assert together["prompt_tokens"] == sum(one["prompt_tokens"] for one in alone)
    assert together["completion_tokens"] == sum(one["completion_tokens"] for one in alone) == 6


def test_tokenize_and_detokenize_are_inverse(client: httpx.Client) -> None:
    ids = client.post("/tokenize", json={"prompt": "Grüße, Gatehouse!"}).json()["tokens"]
    assert client.post("/detokenize", json={"tokens": ids}).json()["prompt"] == "Grüße, Gatehouse!"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"promt": "x"}, "promt"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": ["x", "y"]}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [5, 99999]}, "tokens"),
        ("/detokenize", {"tokens": [5], "skip_special_tokens": False}, "skip_special_tokens"),
    ],
)
def test_what_would_be_left_out_of_tokens_is_named(
    client: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_an_unknown_route_is_a_404_in_openais_shape(client: httpx.Client) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
