"""Responses over WebSocket: OpenAI's own client, before providers of other formats and of this one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.edge.recent import Quota, Recent
from gateway.wire.fields import MOST_MARKS
from tests.contract.test_responses_across import before
from tests.running import KEY, Running, gateway, policies
from tests.scripted import DONE, FINISH, USAGE, Asked, Provider, answer, hang, stream, word

HEAD = {"authorization": f"Bearer {KEY}"}
HELLO = stream(word("hel"), word("lo"), FINISH, USAGE, DONE)


@asynccontextmanager
async def socket(running: Running, **more: Any) -> AsyncIterator[ClientConnection]:
    url = running.url.replace("http", "ws") + "/v1/responses"
    async with connect(url, additional_headers=HEAD | more, proxy=None) as one:
        yield one


async def turn(one: ClientConnection, **asked: Any) -> list[Any]:
    """The events of one turn."""
    await one.send(orjson.dumps({"type": "response.create", "model": "m", "store": False, **asked}).decode())
    return await told(one)


async def told(one: ClientConnection) -> list[Any]:
    events: list[Any] = []
    async with asyncio.timeout(10):
        while not events or not _is_last(events[-1]):
            events.append(orjson.loads(await one.recv()))
    return events


def _is_last(event: Any) -> bool:
    return event["type"] in ("response.completed", "response.failed", "response.incomplete", "error")


def said(response: Any) -> str:
    return str(response["output"][0]["content"][0]["text"])


async def test_the_sdk_talks_over_one_connection_and_goes_on_with_what_was_said(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider):
        provider.script[:] = [HELLO]
        async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client:
            async with client.responses.connect() as connection:
                last: Any = None
                for words in ("Hi", "And then?"):
                    previous = {"previous_response_id": last.response.id} if last else {}
                    await connection.response.create(model="m", input=words, store=False, **previous)
                    async for event in connection:
                        if event.type == "response.completed":
                            last = event
                            break
        assert last.response.output_text == "hello"
        asked = provider.asked[-1].json["messages"]
        assert [one["content"] for one in asked] == ["Hi", "hello", "And then?"]
        total = (await running.usage())["total"]
        assert (total["calls"], total["prompt_tokens"], total["estimated"]) == (2, 14, 0)


def event(kind: str, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **more}))


def native(text: str = "hi", ident: str | None = "resp_1", **more: Any) -> dict[str, Any]:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    sealed = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA"}
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    output = [message, thought, sealed]
    return {
        "id": ident,
        "object": "response",
        "status": "completed",
        "output": output,
        "usage": usage,
        **more,
    }


def speaks(response: dict[str, Any], *before: bytes) -> Any:
    begun = event(
        "response.created", sequence_number=0, response={**response, "output": [], "status": "in_progress"}
    )
    kind = f"response.{response['status']}"
    return stream(begun, *before, event(kind, sequence_number=1, response=response))


@asynccontextmanager
async def speaking(
    tmp_path: Path, more: str = "", **settings: Any
) -> AsyncIterator[tuple[Running, Provider]]:
    """Before a provider that speaks Responses itself."""
    async with Provider() as provider:
        policy = policies(provider.url, more=more).replace("compatible,", "compatible, responses: true,")
        async with gateway(tmp_path, policy, **settings) as running:
            yield running, provider


async def test_a_provider_of_responses_is_told_again_what_it_does_not_keep(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [
            speaks(native()),
            speaks(native("more", "resp_2")),
            speaks(native("last", "resp_3")),
        ]
        first = await turn(one, model="smart", input="Hi", include=["reasoning.encrypted_content"])
        assert [one["type"] for one in first] == ["response.created", "response.completed"]
        assert first[-1]["response"] == native()
        second = await turn(one, model="smart", input="More", previous_response_id="resp_1", generate=True)
        assert said(second[-1]["response"]) == "more"
        await turn(one, model="smart", input="Last", previous_response_id="resp_2")
        body = provider.asked[1].json
        assert {name: body[name] for name in ("model", "store", "stream", "previous_response_id")} == {
            "model": "smart", "store": False, "stream": True, "previous_response_id": None
        }  # fmt: skip
        assert [item["type"] for item in body["input"]] == ["message", "message", "reasoning", "message"]
        assert "id" not in body["input"][1]
        assert body["input"][2]["encrypted_content"] == "gAAA"
        assert len(provider.asked[2].json["input"]) == 7


async def test_what_the_last_event_of_a_turn_leaves_out_is_remembered_all_the_same(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (running, provider), socket(running) as one:
        done = event("response.output_item.done", output_index=0, item=native()["output"][0])
        provider.script[:] = [speaks(native(output=[]), done), speaks(native("more", "resp_2"))]
        await turn(one, model="smart", input="Hi")
        await turn(one, model="smart", input="More", previous_response_id="resp_1")
        assert [said["role"] for said in provider.asked[1].json["input"]] == ["user", "assistant", "user"]


async def test_a_turn_is_told_in_whichever_letters_the_type_of_its_stream_is_written(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (running, provider), socket(running) as one:
        last = event("response.completed", sequence_number=0, response=native("well"))
        provider.script[:] = [stream(last, content_type=b"Text/Event-Stream")]
        assert said((await turn(one, model="smart", input="hi"))[-1]["response"]) == "well"


async def test_a_response_without_an_id_ends_its_turn(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [speaks(native(ident=None))]
        assert said((await turn(one, model="smart", input="Hi"))[-1]["response"]) == "hi"


async def test_what_a_provider_keeps_is_gone_on_from_there(tmp_path: Path) -> None:
    async with speaking(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [speaks(native()), speaks(native("more", "resp_2"))]
        await turn(one, model="smart", input="Hi", store=True)
        await turn(one, model="smart", input="More", previous_response_id="resp_1", store=False)
        assert provider.asked[1].json["previous_response_id"] == "resp_1"
        await turn(one, model="smart", input="Last", previous_response_id="resp_2", store=False)
        last = provider.asked[2].json
        assert (last["previous_response_id"], len(last["input"])) == ("resp_1", 4)


async def test_what_is_not_stored_ends_with_its_connection(tmp_path: Path) -> None:
    """As the Open Responses suite asks: the error has a name, and a new conversation may begin at once."""
    async with before(tmp_path) as (running, provider):
        provider.script[:] = [HELLO]
        async with socket(running) as one:
            ident = (await turn(one, input="Remember"))[-1]["response"]["id"]
        async with socket(running) as one:
            (missing,) = await turn(one, input="Go on", previous_response_id=ident)
            assert (missing["status"], missing["error"]["code"]) == (400, "previous_response_not_found")
            assert said((await turn(one, input="Anew"))[-1]["response"]) == "hello"


async def test_a_turn_that_fails_takes_what_it_went_on_from_with_it(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [HELLO]
        ident = (await turn(one, input="Remember"))[-1]["response"]["id"]
        lost = [{"type": "function_call_output", "call_id": "call_x", "output": "?"}]
        (failed,) = await turn(one, input=lost, previous_response_id=ident)
        assert (failed["type"], failed["status"]) == ("error", 400)
        (again,) = await turn(one, input="Go on", previous_response_id=ident)
        assert again["error"]["code"] == "previous_response_not_found"


async def test_a_stored_answer_is_gone_on_from_over_any_connection(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider):
        provider.script[:] = [HELLO]
        async with socket(running) as one:
            ident = (await turn(one, input="Remember", store=True))[-1]["response"]["id"]
        async with socket(running) as one:
            then = (await turn(one, input="Go on", previous_response_id=ident))[-1]["response"]["id"]
            await turn(one, input="And on", previous_response_id=then)
        asked = [message["content"] for message in provider.asked[-1].json["messages"]]
        assert asked == ["Remember", "hello", "Go on", "hello", "And on"]


async def test_a_turn_may_only_prepare_the_next(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [HELLO]
        warmed = (await turn(one, input="The code is slate.", generate=False))[-1]
        assert (warmed["type"], warmed["response"]["output"]) == ("response.completed", [])
        assert provider.asked == []
        await turn(one, input="Which?", previous_response_id=warmed["response"]["id"])
        asked = [message["content"] for message in provider.asked[0].json["messages"]]
        assert asked == ["The code is slate.", "Which?"]


async def test_a_turn_that_prepares_with_odd_values_is_refused_as_the_clients_fault(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, _), socket(running) as one:
        [told] = await turn(one, input="x", generate=False, tools=7)
        assert (told["status"], told["error"]["code"]) == (400, "invalid_value")


async def test_lanes_go_side_by_side_and_each_in_its_order(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [stream(word("slow"), go, FINISH, DONE), HELLO]

        async def ask(lane: str, words: str) -> None:
            asked = {
                "type": "response.create",
                "model": "m",
                "store": False,
                "stream_id": lane,
                "input": words,
            }
            await one.send(orjson.dumps(asked).decode())

        await ask("a", "1")
        while not provider.asked:
            await asyncio.sleep(0.002)
        await ask("a", "2")
        await ask("b", "3")
        quick = [event for event in await told(one) if event["stream_id"] == "b"]
        assert said(quick[-1]["response"]) == "hello"
        assert len(provider.asked) == 2
        go.set()
        assert said((await told(one))[-1]["response"]) == "slow"
        last = await told(one)
        assert {event["stream_id"] for event in last} == {"a"}
        assert provider.asked[-1].json["messages"][-1]["content"] == "2"


async def test_more_than_may_wait_is_refused(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [stream(go, word("x"), FINISH, DONE)]
        for lane in [*"abcdefghijklmnop", *"aaaaaaaaaaaaaaaa"]:
            asked = {
                "type": "response.create",
                "model": "m",
                "input": "hi",
                "store": False,
                "stream_id": lane,
            }
            await one.send(orjson.dumps(asked).decode())
        for lane, code in (("z", "websocket_stream_limit_reached"), ("a", "too_many_turns")):
            (refused,) = await turn(one, input="hi", stream_id=lane)
            assert (refused["error"]["code"], refused["stream_id"]) == (code, lane)
        go.set()
        for _ in range(32):
            while not _is_last(orjson.loads(await one.recv())):
                pass


@pytest.mark.parametrize(
    ("message", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        pytest.param(b'{"x": [%b0]}' % (b"0," * MOST_MARKS), 400, None, id="too many values"),
        (b'{"type": "response.cancel"}', 400, "type"),
        (b'{"type": "response.create", "model": "m", "input": "hi", "background": true}', 400, "background"),
        (b'{"type": "response.create", "model": "m", "input": "hi", "stream_id": "a b"}', 400, "stream_id"),
        (b'{"type": "response.create", "model": "smart"}', 400, "input"),
        (b'{"type": "response.create", "model": "n", "input": "hi"}', 404, "model"),
    ],
)
async def test_what_is_no_turn_is_refused_and_the_connection_stays(
    tmp_path: Path, message: bytes, status: int, param: str | None
) -> None:
    async with Provider([HELLO]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with socket(running) as one:
            await one.send(message.decode())
            (refused,) = await told(one)
            assert (refused["type"], refused["status"], refused["error"]["param"]) == ("error", status, param)
            assert refused["error"]["message"]
            assert said((await turn(one, model="smart", input="hi"))[-1]["response"]) == "hello"


async def test_each_turn_counts_in_limits_of_its_own(tmp_path: Path) -> None:
    rule = "kind: rate-limits\nrules: [{id: few, limit: 1, unit: requests, per: day, for_each: [key]}]"
    async with speaking(tmp_path, rule) as (running, provider), socket(running) as one:
        provider.script[:] = [speaks(native())]
        assert (await turn(one, model="smart", input="hi"))[-1]["type"] == "response.completed"
        (refused,) = await turn(one, model="smart", input="hi")
        assert (refused["status"], refused["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (await running.usage())["total"]["calls"] == 1


async def begins_and_waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A stream that has begun and says no more; over once its reader is gone."""
    await stream(word("hel"), then=partial(hang(), asked, writer))(asked, writer)


async def aborted(one: ClientConnection) -> None:
    one.transport.abort()


@pytest.mark.parametrize("polite", [True, False])
async def test_a_client_that_leaves_ends_its_turns_at_once(tmp_path: Path, polite: bool) -> None:
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [begins_and_waits]
        await one.send(orjson.dumps({"type": "response.create", "model": "m", "input": "hi"}).decode())
        await one.recv()
        left = asyncio.ensure_future(one.close() if polite else aborted(one))
        async with asyncio.timeout(10):
            await provider.left.get()
        await left
        while running.house.reception.in_flight:
            await asyncio.sleep(0.002)
        total = (await running.usage())["total"]
        assert (total["calls"], total["estimated"]) == (1, 1)


async def test_a_turn_that_fails_is_ended_by_one_message(tmp_path: Path) -> None:
    """Of both that a stream tells; and nothing moves before an error that came earlier."""
    begun = event("response.created", response=native(status="in_progress"))
    error = event("error", error={"code": "server_error", "message": "oh"})
    failed = event("response.failed", response=native(status="failed", error={"message": "oh"}))
    late = event("response.output_text.delta", delta="x")
    async with speaking(tmp_path) as (running, provider):
        for rest, kinds in (
            ((error, failed), ["response.failed"]),
            ((error, late), ["error", "response.output_text.delta"]),
        ):
            go = asyncio.Event()
            provider.script[:] = [stream(begun, go, *rest)]
            async with socket(running) as one:
                await one.send(
                    orjson.dumps({"type": "response.create", "model": "smart", "input": "hi"}).decode()
                )
                await one.recv()
                go.set()
                told_so = [orjson.loads(await one.recv())["type"] for _ in kinds]
                assert told_so == kinds
                provider.script[:] = [stream(begun)]
                await one.send(
                    orjson.dumps({"type": "response.create", "model": "smart", "input": "hi"}).decode()
                )
                assert orjson.loads(await one.recv())["type"] == "response.created", "of the next turn"


async def test_what_goes_wrong_in_the_middle_is_told_in_the_transports_shape(tmp_path: Path) -> None:
    flat = event("error", code="server_error", message="oh", param=None, sequence_number=1)
    delta = event("response.output_text.delta", delta="x", sequence_number=1)
    async with speaking(tmp_path) as (running, provider), socket(running) as one:
        go = asyncio.Event()
        begun = event("response.created", response=native(status="in_progress"))
        provider.script[:] = [stream(begun, go, flat)]
        await one.send(orjson.dumps({"type": "response.create", "model": "smart", "input": "hi"}).decode())
        await one.recv()
        go.set()
        (last,) = await told(one)
        assert last["error"] == {
            "type": "server_error",
            "code": "server_error",
            "message": "oh",
            "param": None,
        }
        assert (last["code"], last["sequence_number"]) == ("server_error", 1)
        assert last["status"] == 502, "Codex takes no other error for one"
        provider.script[:] = [stream(begun, delta, end=False)]
        broken = (await turn(one, model="smart", input="hi"))[-1]
        assert (broken["type"], broken["response"]["error"]["code"]) == ("response.failed", "server_error")
        provider.script[:] = [answer({"error": "no such thing"}, 400)]
        (last,) = await turn(one, model="smart", input="hi")
        assert (last["status"], last["error"]["message"]) == (400, "no such thing")
        provider.script[:] = [answer(native("whole"))]
        last = (await turn(one, model="smart", input="hi"))[-1]
        assert (last["type"], said(last["response"])) == ("response.completed", "whole")


async def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [HELLO]
        events = await turn(one, input="hi", tools=[{"type": "web_search"}])
        assert events[0] == {"type": "gateway.dropped", "fields": ["tools[0]"]}


async def test_the_end_of_the_process_lets_turns_finish(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with before(tmp_path) as (running, provider), socket(running) as idle, socket(running) as one:
        provider.script[:] = [stream(word("hello"), go, FINISH, DONE)]
        await one.send(orjson.dumps({"type": "response.create", "model": "m", "input": "hi"}).decode())
        await one.recv()
        running.data.should_exit = True
        with pytest.raises(ConnectionClosed) as closed:
            await idle.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        late = (await turn(one, input="late", stream_id="b"))[-1]
        assert (late["stream_id"], late["status"]) == ("b", 503)
        go.set()
        assert said((await told(one))[-1]["response"]) == "hello"
        with pytest.raises(ConnectionClosed):
            await one.recv()


async def test_a_turn_that_outlasts_the_drain_is_told_so(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), socket(running) as one:
        provider.script[:] = [stream(word("hel"), asyncio.Event())]
        await one.send(orjson.dumps({"type": "response.create", "model": "m", "input": "hi"}).decode())
        await one.recv()
        for task in list(running.data.server_state.tasks):
            task.cancel()  # as the server does when its drain time is over
        assert (await told(one))[-1]["type"] in ("response.failed", "error")
        with pytest.raises(ConnectionClosed):
            await one.recv()


async def test_the_key_is_asked_for_at_the_handshake(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, _):
        with pytest.raises(InvalidStatus) as refused:
            async with socket(running, authorization="Bearer nobody"):
                raise AssertionError
        assert refused.value.response.status_code == 401
        async with running.client() as client:
            assert (await client.get("/v1/responses")).status_code != 200


async def test_connections_leave_room_for_calls_and_for_other_teams(tmp_path: Path) -> None:
    async with before(tmp_path, max_in_flight=8) as (running, _), AsyncExitStack() as stack:
        ours = [await stack.enter_async_context(socket(running)) for _ in range(2)]
        with pytest.raises(InvalidStatus) as refused:
            await stack.enter_async_context(socket(running))
        assert refused.value.response.status_code == 503
        await stack.enter_async_context(socket(running, authorization="Bearer sk-poor"))
        await ours[0].close()
        while running.house.reception.in_flight > 2:
            await asyncio.sleep(0.002)
        await stack.enter_async_context(socket(running))


async def test_of_more_than_there_is_room_for_the_oldest_is_forgotten(tmp_path: Path) -> None:
    async with before(tmp_path, max_body=2000) as (running, provider), socket(running) as one:
        provider.script[:] = [HELLO]
        first, second = [(await turn(one, input=word * 900))[-1]["response"]["id"] for word in "ab"]
        (forgotten,) = await turn(one, input="more", previous_response_id=first)
        assert forgotten["error"]["code"] == "previous_response_not_found"
        assert said((await turn(one, input="more", previous_response_id=second))[-1]["response"]) == "hello"


def test_what_connections_remember_together_is_bounded_and_given_back() -> None:
    quota = Quota(1000)
    first, second = Recent(1000, quota), Recent(1000, quota)
    response = {"id": "resp_1", "output": [{"type": "message", "text": "x" * 600}]}
    first.keep(response, [], None)
    second.keep(response, [], None)
    assert (first.before("resp_1")[1], second.before("resp_1")[1]) == (None, "resp_1")
    first.clear()
    assert quota.used == 0
