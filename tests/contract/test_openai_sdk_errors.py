"""What goes wrong reaches the official openai SDK as the exception that it has for it."""

import asyncio
from pathlib import Path

import openai
import pytest

from tests.contract.sdk import HI, RESPONSE, scene, streamed
from tests.scripted import FINISH, answer, event, hang, stream, word

ERROR = {
    "message": "no, says the provider",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "odd",
}


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (413, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_the_providers_refusal_arrives_as_the_sdk_knows_it(
    tmp_path: Path, status: int, raised: type[openai.APIStatusError]
) -> None:
    async with scene(tmp_path) as here:
        here.provides(answer({"error": ERROR}, status))
        for streaming in (False, True):
            with pytest.raises(raised) as caught:
                await here.client.chat.completions.create(model="smart", messages=HI, stream=streaming)
            assert caught.value.status_code == status
            assert caught.value.body == ERROR
            assert (caught.value.code, caught.value.param) == ("odd", "messages")
            assert caught.value.request_id


@pytest.mark.parametrize("status", [401, 403])
async def test_a_provider_that_refuses_our_own_key_is_no_matter_of_the_clients_key(
    tmp_path: Path, status: int
) -> None:
    async with scene(tmp_path) as here:
        here.provides(answer({"error": ERROR}, status))
        with pytest.raises(openai.InternalServerError) as caught:
            await here.client.chat.completions.create(model="smart", messages=HI)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


@pytest.mark.parametrize(
    ("key", "code"), [("Bearer sk-unknown", "invalid_api_key"), (openai.Omit(), "missing_api_key")]
)
async def test_a_key_that_is_wrong_or_missing_is_an_authentication_error(
    tmp_path: Path, key: str | openai.Omit, code: str
) -> None:
    headers = {"Authorization": key}
    async with scene(tmp_path) as (client, provider, _):
        for ask in (
            lambda: client.chat.completions.create(model="smart", messages=HI, extra_headers=headers),
            lambda: client.files.retrieve("file-1", extra_headers=headers),
            lambda: client.models.retrieve("smart", extra_headers=headers),
        ):
            with pytest.raises(openai.AuthenticationError) as caught:
                await ask()
            assert caught.value.code == code
    assert provider.asked == []


async def test_a_model_or_an_endpoint_that_the_team_may_not_use_is_a_permission_error(tmp_path: Path) -> None:
    async with scene(tmp_path, key="sk-poor") as (client, provider, _):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat.completions.create(model="smart", messages=HI)
        assert caught.value.code == "model_not_allowed"
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.vector_stores.create()
        assert caught.value.code == "route_not_allowed"
    assert provider.asked == []


async def test_a_model_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, _, _):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="dumb", messages=HI)
    assert caught.value.code == "model_not_found"


async def test_a_call_that_is_no_call_is_a_bad_request_that_names_the_field(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, _, _):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="smart", messages=HI, max_tokens=-1)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "max_tokens")


async def test_a_call_that_is_too_large_has_status_413(tmp_path: Path) -> None:
    async with scene(tmp_path, max_body=4096) as (client, provider, _):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(
                model="smart", messages=[{"role": "user", "content": "x" * 5000}]
            )
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert provider.asked == []


LIMIT = "---\nkind: rate-limits\nrules: [{id: few, limit: 1, unit: requests, per: day}]"


async def test_a_limit_of_ours_is_a_rate_limit_error_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with scene(tmp_path, more=LIMIT) as (client, provider, _):
        await client.chat.completions.create(model="smart", messages=HI)
        for streaming in (False, True):
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="smart", messages=HI, stream=streaming)
            assert caught.value.code == "rate_limit_exceeded"
            assert '"few"' in caught.value.message
            assert int(caught.value.response.headers["retry-after"]) > 80_000
    assert len(provider.asked) == 1


async def test_a_provider_that_cannot_be_reached_is_an_internal_error_that_the_sdk_does_not_repeat(
    tmp_path: Path,
) -> None:
    async def drop(asked: object, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with scene(tmp_path, retries=3) as here:
        here.provides(drop)
        with pytest.raises(openai.InternalServerError) as caught:
            await here.client.chat.completions.create(model="smart", messages=HI)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")
    assert len(here.provider.asked) <= 2, "the first, and the one for a connection that had grown stale"


async def test_a_full_house_is_an_internal_error_that_the_sdk_may_try_again_in_a_second(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, max_in_flight=1) as here:
        here.provides(hang())
        create = here.client.chat.completions.create
        first = asyncio.ensure_future(create(model="smart", messages=HI))
        while not here.provider.asked:
            await asyncio.sleep(0.002)
        with pytest.raises(openai.InternalServerError) as caught:
            await create(model="smart", messages=HI)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
    assert caught.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_provider_that_is_silent_is_an_internal_error_with_status_504(
    tmp_path: Path, streaming: bool
) -> None:
    times = ", timeouts: {first_token: 0.1s, total: 0.1s}"
    async with scene(tmp_path, model=times) as here:
        here.provides(hang())
        with pytest.raises(openai.InternalServerError) as caught:
            await here.client.chat.completions.create(model="smart", messages=HI, stream=streaming)
        await asyncio.wait_for(here.provider.left.get(), 5)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


async def test_a_client_whose_own_time_is_up_takes_its_call_back(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(hang())
        with pytest.raises(openai.APITimeoutError):
            await here.client.chat.completions.create(model="smart", messages=HI, timeout=0.2)
        await asyncio.wait_for(here.provider.left.get(), 5)
    assert len(here.provider.asked) == 1


@pytest.mark.parametrize("last", [b"", b'data: {"choices": [{"index": 0, "del'])
@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_that_is_cut_in_the_middle_raises_after_what_has_come(
    tmp_path: Path, last: bytes, end: bool
) -> None:
    """Whether the provider closes the stream politely or hangs up, between two events or within one."""
    pieces = [word("hel"), *([last] if last else [])]
    async with scene(tmp_path) as here:
        here.provides(stream(*pieces, end=end))
        chunks = await streamed(here)
        assert (await anext(chunks)).choices[0].delta.content == "hel"
        with pytest.raises(openai.APIError) as caught:
            await anext(chunks)
    assert caught.value.code == "upstream_stream_broken"
    assert "provider-secret-key" not in caught.value.message


async def test_a_stream_of_two_choices_that_ends_after_the_first_raises_too(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(stream(word("hello"), FINISH))
        chunks = await here.client.chat.completions.create(model="smart", messages=HI, n=2, stream=True)
        assert (await anext(chunks)).choices[0].delta.content == "hello"
        assert (await anext(chunks)).choices[0].finish_reason == "stop"
        with pytest.raises(openai.APIError) as caught:
            await anext(chunks)
    assert caught.value.code == "upstream_stream_broken"


async def test_a_stream_that_breaks_off_in_an_error_of_the_provider_raises_that(tmp_path: Path) -> None:
    heard = asyncio.Event()
    async with scene(tmp_path) as here:
        here.provides(stream(word("hel"), heard, event(error={"message": "out of memory", "code": "oom"})))
        with pytest.raises(openai.APIError, match="out of memory"):
            async for chunk in await streamed(here):
                assert chunk.choices[0].delta.content == "hel"
                heard.set()


async def test_a_stream_that_begins_with_an_error_is_an_internal_error(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(stream(event(error={"message": "out of memory"})))
        with pytest.raises(openai.InternalServerError, match="out of memory") as caught:
            await streamed(here)
    assert caught.value.status_code == 502


async def test_a_stream_of_responses_that_is_cut_raises_however_it_is_read(tmp_path: Path) -> None:
    created = {"type": "response.created", "sequence_number": 0, "response": RESPONSE}
    async with scene(tmp_path) as here:
        here.provides(stream(b"event: response.created\n" + event(**created), end=False))
        events = await here.client.responses.create(model="smart", input="hi", stream=True)
        assert (await anext(events)).type == "response.created"
        with pytest.raises(openai.APIError) as caught:
            async for _ in events:
                pass
        assert caught.value.code == "upstream_stream_broken"
        async with here.client.responses.stream(model="smart", input="hi") as told:
            with pytest.raises(openai.APIError, match="the provider's stream broke"):
                await told.until_done()
