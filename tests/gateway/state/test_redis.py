"""The allowance in a real Redis: what only several processes, an outage or a look into the store can show."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.claim import Limit
from gateway.core.failure import LimitReached, StoreGone
from gateway.state.place import parse_url
from gateway.state.resp import PATIENCE, Asked, Connection
from tests.gateway.state.sharing import Process, claim, process, until
from tests.redis_server import RedisServer

DAY = 86_400
REQUESTS = Limit("per-key", "requests", 1000, DAY)
TOKENS = Limit("words", "tokens", 10_000, DAY)
AT_ONCE = Limit("at-once", "concurrent", 1)


@pytest.fixture(autouse=True)
def _quick_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes hear of each other in a twentieth of the time."""
    monkeypatch.setattr("gateway.state.lifeline.BEAT", 0.05)


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Process]:
    async with process(redis_server.url) as one:
        yield one


WORKER = """
import asyncio, sys, uvloop
from gateway.core.claim import Claim, Limit
from gateway.core.failure import LimitReached
from gateway.core.meters import Meters
from gateway.state.redis import RedisAllowance
from gateway.state.place import parse_url

async def main():
    meters = Meters()
    allowance = RedisAllowance(parse_url(sys.argv[1]), meters, lambda level, text: None)
    running = asyncio.ensure_future(allowance.run())
    while allowance.degraded:
        await asyncio.sleep(0.001)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    claims = [Claim(Limit("per-key", "requests", 1000, 86400), "key", 1)]
    admitted = 0
    async def call():
        nonlocal admitted
        for _ in range(50):
            try:
                await allowance.reserve(claims, 600)
                admitted += 1
            except LimitReached:
                pass
    await asyncio.gather(*(call() for _ in range(25)))
    print(admitted, sum(meters.store_errors.values.values()), flush=True)
    await allowance.aclose()
    running.cancel()

uvloop.run(main())
"""


async def test_5000_calls_of_four_processes_get_exactly_1000(redis_server: RedisServer) -> None:
    """Over a second: four Python processes have to start."""
    pipe = asyncio.subprocess.PIPE
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, redis_server.url, stdin=pipe, stdout=pipe
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    results = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    counts = [[int(word) for word in out.split()] for out, _ in results]
    assert sum(elsewhere for _, elsewhere in counts) == 0, "all were decided in Redis"
    assert sum(admitted for admitted, _ in counts) == 1000


async def test_processes_share_calls_in_flight(redis_server: RedisServer, here: Process) -> None:
    async with process(redis_server.url) as there:
        grant = await here.reserve(claim(AT_ONCE))
        assert await there.refuses(claim(AT_ONCE))
        here.allowance.settle(grant, 0)
        await here.reserve(claim(REQUESTS))
        assert not await there.refuses(claim(AT_ONCE))


async def test_what_a_dead_process_held_comes_back_when_it_expires(here: Process) -> None:
    await here.reserve(claim(AT_ONCE), claim(TOKENS, 9000), claim(REQUESTS), hold=0.05)
    assert await here.refuses(claim(AT_ONCE))
    async with asyncio.timeout(5):
        while await here.refuses(claim(AT_ONCE)):
            await asyncio.sleep(0.005)  # Redis's own clock has to move
    grant = await here.reserve(claim(TOKENS), claim(REQUESTS))
    assert [standing.remaining for standing in grant.standings] == [9999, 998]


async def test_who_settles_after_expiry_gets_nothing_back_twice(here: Process) -> None:
    grant = await here.reserve(claim(TOKENS, 9000), hold=0.01)
    await asyncio.sleep(0.03)  # Redis's own clock has to move
    assert (await here.reserve(claim(TOKENS, 5000))).standings[0].remaining == 5000
    here.allowance.settle(grant, 1)
    assert (await here.reserve(claim(TOKENS, 0))).standings[0].remaining == 5000


async def test_reservations_of_other_calls_outlive_a_short_one(here: Process) -> None:
    flight = Limit("flight", "concurrent", 10)
    await here.reserve(claim(flight), hold=600)
    await here.reserve(claim(flight), hold=0.001)
    await asyncio.sleep(0.005)  # Redis's own clock has to move
    assert (await here.reserve(claim(flight))).standings[0].remaining == 8


async def test_calls_of_one_moment_share_one_write(redis_server: RedisServer, here: Process) -> None:
    with redis_server.client() as client:
        before: Any = client.info("stats")
        grants = await asyncio.gather(*(here.reserve(claim(REQUESTS)) for _ in range(60)))
        after: Any = client.info("stats")
    assert len(grants) == 60
    # One of its own, one or two of this client's, perhaps a sign of life.
    assert after["total_reads_processed"] - before["total_reads_processed"] <= 4


async def test_a_call_is_one_command_whatever_it_claims(redis_server: RedisServer, here: Process) -> None:
    with redis_server.client() as client:
        client.config_resetstat()
        claims = [claim(Limit(f"rule-{number}", "requests", 10, DAY)) for number in range(12)]
        await here.reserve(*claims)
        stats: Any = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] <= 2, "the call, and perhaps a sign of life"


async def test_flushed_scripts_are_sent_again(redis_server: RedisServer, here: Process) -> None:
    grant = await here.reserve(claim(AT_ONCE), claim(REQUESTS))
    with redis_server.client() as client:
        client.script_flush()
        here.allowance.settle(grant, 0)
        client.script_flush()
    assert not await here.refuses(claim(AT_ONCE))
    assert (await here.reserve(claim(REQUESTS))).standings[0].remaining == 998
    assert not here.store_errors


async def test_nothing_a_caller_names_stands_in_a_key_and_every_key_expires(
    redis_server: RedisServer, here: Process
) -> None:
    names = ["secret}name", "a:b", "{x}", "*"]
    grants = [await here.reserve(claim(AT_ONCE, 1, name), claim(TOKENS, 10, name)) for name in names]
    with redis_server.client() as client:
        keys: Any = client.keys("*")
        assert len(keys) == 4 * len(names) + 1
        assert all(key.startswith("gatehouse:v1:{l}:") for key in keys)
        assert not any(name in key.removeprefix("gatehouse:v1:{l}:") for key in keys for name in names)
        assert all(client.pttl(key) > 0 for key in keys)
        for grant in grants:
            here.allowance.settle(grant, 0)
        await here.reserve(claim(REQUESTS))
        left: Any = client.keys("*")
        assert not any(key.endswith(":open") for key in left)


async def test_reservations_expire_in_a_set_that_was_empty_for_a_while(
    redis_server: RedisServer, here: Process
) -> None:
    here.allowance.settle(await here.reserve(claim(AT_ONCE)), 0)
    await until_answered(here)
    await here.reserve(claim(AT_ONCE))
    with redis_server.client() as client:
        assert [client.pttl(key) > 0 for key in client.keys("*:open")] == [True]


async def test_what_is_left_of_a_lost_bucket_gives_nothing_back_to_the_next(
    redis_server: RedisServer, here: Process
) -> None:
    await here.reserve(claim(TOKENS, 6000), hold=0.05)  # its process dies
    with redis_server.client() as client:
        client.delete(*(key.removesuffix(":open") for key in client.keys("*:open")))
    await here.reserve(claim(TOKENS, 5000))
    await asyncio.sleep(0.1)  # Redis's own clock has to move
    assert (await here.reserve(claim(TOKENS, 0))).standings[0].remaining == 5000


@pytest.mark.parametrize("evicted", ["the bucket", "what is open"])
async def test_calls_in_flight_hold_no_place_for_ever_where_redis_evicts_half_of_what_it_knows(
    redis_server: RedisServer, here: Process, evicted: str
) -> None:
    flight = Limit("flight", "concurrent", 3)
    grants = [await here.reserve(claim(flight), hold=hold) for hold in (600, 600, 0.05)]
    with redis_server.client() as client:
        [left] = client.keys("*:open")
        lives = client.pttl(left)
        client.delete(left if evicted == "what is open" else left.removesuffix(":open"))
        if evicted == "the bucket":
            await asyncio.sleep(0.1)  # Redis's own clock has to move
            assert (await here.reserve(claim(flight), hold=1)).standings[0].remaining == 0
            assert client.pttl(left) > 0.9 * lives
        else:
            assert (await here.reserve(claim(flight), hold=1)).standings[0].remaining == 2
    for grant in grants:
        here.allowance.settle(grant, 0)
    await until_answered(here)
    assert (await here.reserve(claim(flight))).standings[0].remaining == 1


async def test_a_call_that_was_hung_up_on_gives_back_what_it_reserved(here: Process) -> None:
    waiting = asyncio.ensure_future(here.reserve(claim(AT_ONCE), claim(TOKENS, 5000), claim(REQUESTS)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await here.reserve(claim(Limit("other", "requests", 1, DAY)))
    grant = await here.reserve(claim(AT_ONCE), claim(TOKENS, 1), claim(REQUESTS))
    assert [standing.remaining for standing in grant.standings] == [0, 9999, 999]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_call_that_is_hung_up_on_in_the_turn_of_its_reply_gives_back_what_it_reserved(
    here: Process, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    claims = claim(AT_ONCE), claim(TOKENS, 5000)
    waiting = asyncio.ensure_future(here.reserve(*claims))
    answer = Connection._answer

    def answer_and_hang_up(connection: Connection, asked: Asked, reply: Any) -> None:
        if asked.unheard is not None and lost:
            connection._waiting.append(asked)
            connection.close()
        else:
            answer(connection, asked, reply)
        if asked.unheard is not None:
            monkeypatch.setattr(Connection, "_answer", answer)
            waiting.cancel()

    monkeypatch.setattr(Connection, "_answer", answer_and_hang_up)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await here.back()
    await until_answered(here)
    grant = await here.reserve(*claims)
    assert [standing.remaining for standing in grant.standings] == [0, 5000]


RULES: Sequence[tuple[str, Any]] = (("local_share", 500), ("allow", 1200), ("refuse", 0))


@pytest.mark.parametrize(("mode", "admitted"), RULES)
async def test_without_redis_each_rule_does_what_it_says(
    own_redis: RedisServer, mode: Any, admitted: int
) -> None:
    limit = Limit("r", "requests", 1000, DAY, on_store_error=mode)
    async with process(own_redis.url) as here, process(own_redis.url) as there:
        # The second process told of itself before it counted as connected; the first hears of it by its next sign.
        await until(lambda: here.allowance.processes == 2)
        own_redis.kill()
        await here.away()
        count = 0
        for _ in range(1200):
            try:
                grant = await here.reserve(claim(limit))
            except StoreGone as gone:
                assert gone.status == 503
                assert str(gone) == 'rule "r" refuses calls while its store is away; try again in 1 s'
            except LimitReached:
                pass
            else:
                count += 1
                here.allowance.settle(grant, 0)
        assert count == admitted
        assert here.store_errors == {(mode,): 1200}
        assert here.allowance.degraded == there.allowance.degraded == ["redis"]
        assert "Redis is away" in here.said[0]


async def test_a_claim_larger_than_the_local_share_takes_the_share_and_owes_the_rest(
    own_redis: RedisServer,
) -> None:
    async with process(own_redis.url) as here, process(own_redis.url):
        await until(lambda: here.allowance.processes == 2)
        own_redis.kill()
        await here.away()
        grant = await here.reserve(claim(TOKENS, 8000))
        here.allowance.settle(grant, 6000)
        assert await here.refuses(claim(TOKENS, 1))


async def test_a_shadow_rule_refuses_nothing_without_redis_either(own_redis: RedisServer) -> None:
    limit = Limit("r", "requests", 1, DAY, mode="shadow", on_store_error="refuse")
    async with process(own_redis.url) as here:
        own_redis.kill()
        await here.away()
        for _ in range(3):
            await here.reserve(claim(limit))


async def test_a_restarted_redis_is_used_again(own_redis: RedisServer) -> None:
    async with process(own_redis.url) as here:
        grant = await here.reserve(claim(TOKENS, 100), claim(REQUESTS))
        own_redis.kill()
        await here.away()
        await here.reserve(claim(REQUESTS))
        here.allowance.settle(grant, 10)
        own_redis.start()
        await here.back()
        # It is empty: what is settled now was reserved in a store that is no more, and gives nothing back.
        grant = await here.reserve(claim(REQUESTS), claim(TOKENS, 100))
        assert [standing.remaining for standing in grant.standings] == [999, 9900]
        assert "Redis is back: limits are shared again" in here.said


async def test_a_process_that_starts_without_redis_serves_all_the_same(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with process(own_redis.url, connected=False) as here:
        await here.reserve(claim(REQUESTS))
        assert here.allowance.degraded == ["redis"]
        own_redis.start()
        await here.back()


async def test_the_first_calls_of_a_process_wait_for_its_first_connection(redis_server: RedisServer) -> None:
    async with process(redis_server.url, connected=False) as here:
        await here.reserve(claim(REQUESTS))
        assert not here.store_errors


async def test_a_redis_that_hangs_is_waited_for_a_moment_and_then_no_more(own_redis: RedisServer) -> None:
    async with process(own_redis.url) as here:
        own_redis.pause()
        clock = asyncio.get_running_loop().time
        spent = []
        while not here.allowance.degraded:
            began = clock()
            await here.reserve(claim(REQUESTS))
            spent.append(clock() - began)
        assert len(spent) <= 6, "five replies missed in a row are enough"
        # Ten times what the machinery allows: this machine may be busy.
        assert max(spent) < 10 * PATIENCE
        decided = here.store_errors["local_share",]
        assert decided == len(spent)
        own_redis.resume()
        await here.back()


async def test_what_redis_wakes_up_to_does_not_count(own_redis: RedisServer) -> None:
    """Claims that waited in its socket while it slept were decided elsewhere long ago."""
    async with process(own_redis.url) as here:
        own_redis.pause()
        while not here.allowance.degraded:
            await here.reserve(claim(REQUESTS), claim(TOKENS, 1000))
        await asyncio.sleep(2 * PATIENCE)  # until the last of them counts as too late
        own_redis.resume()
        await here.back()
        grant = await here.reserve(claim(REQUESTS), claim(TOKENS, 1000))
        assert [standing.remaining for standing in grant.standings] == [999, 9000]


async def test_a_grant_that_came_too_late_is_given_back_but_for_the_request_that_went_ahead(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.state.lifeline.DEADLINE_SLACK", 60_000_000)
    async with process(own_redis.url) as here:
        own_redis.pause()
        grant = await here.reserve(claim(REQUESTS), claim(TOKENS, 1000), claim(AT_ONCE))
        assert here.store_errors == {("local_share",): 3}
        here.allowance.settle(grant, 1)
        own_redis.resume()
        await here.back()
        await until_answered(here)
        grant = await here.reserve(claim(REQUESTS), claim(TOKENS, 1000), claim(AT_ONCE))
        assert [standing.remaining for standing in grant.standings] == [998, 9000, 0]


async def test_a_grant_that_came_too_late_for_a_call_that_was_refused_is_given_back_whole(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.state.lifeline.DEADLINE_SLACK", 60_000_000)
    refusing = replace(REQUESTS, rule="refusing", on_store_error="refuse")
    async with process(own_redis.url) as here:
        own_redis.pause()
        with pytest.raises(StoreGone):
            await here.reserve(claim(refusing))
        own_redis.resume()
        await here.back()
        await until_answered(here)
        grant = await here.reserve(claim(refusing))
        assert [standing.remaining for standing in grant.standings] == [999]


async def until_answered(here: Process) -> None:
    """What was asked before is answered, and what followed from the answers is said."""
    for number in range(3):
        await here.reserve(claim(Limit(f"other-{number}", "requests", 1, DAY)))


async def test_what_was_settled_during_a_pause_is_said_afterwards(own_redis: RedisServer) -> None:
    async with process(own_redis.url) as here:
        grant = await here.reserve(claim(AT_ONCE), claim(TOKENS, 8000))
        own_redis.pause()
        while not here.allowance.degraded:
            await here.reserve(claim(REQUESTS))
        here.allowance.settle(grant, 1000)
        own_redis.resume()
        await here.back()
        grant = await here.reserve(claim(AT_ONCE), claim(TOKENS, 1))
        assert [standing.remaining for standing in grant.standings] == [0, 8999]


async def test_a_redis_with_a_password_and_a_database(tmp_path: Any) -> None:
    server = RedisServer(tmp_path, "--requirepass", "s3cret/ word")
    try:
        async with process(f"unix://:s3cret%2F%20word@{server.socket}?db=3") as here:
            await here.reserve(claim(REQUESTS))
            assert not here.store_errors
        async with process(f"unix://:wrong@{server.socket}", connected=False) as here:
            await until(lambda: bool(here.said))
            assert "wrong" not in here.said[0].split()
            assert "s3cret" not in here.said[0]
    finally:
        server.close()


async def test_who_hangs_up_at_once_is_not_called_in_a_storm(tmp_path: Any) -> None:
    """Over a second: the pauses between attempts are what is tested."""
    calls = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    server = await asyncio.start_unix_server(hang_up, tmp_path / "s")
    async with server, process(f"unix://{tmp_path}/s", connected=False):
        await asyncio.sleep(1.0)
    assert 2 <= calls <= 10


async def test_what_is_no_redis_is_a_redis_that_is_away(tmp_path: Any) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(chatter, tmp_path / "s")
    async with server, process(f"unix://{tmp_path}/s", connected=False) as here:
        await here.reserve(claim(REQUESTS))
        await until(lambda: bool(here.said))
        assert here.allowance.degraded == ["redis"]


async def test_a_process_says_its_last_words_and_counts_no_more(
    redis_server: RedisServer, here: Process
) -> None:
    there = Process(parse_url(redis_server.url), 1)
    running = asyncio.ensure_future(there.allowance.run())
    await there.back()
    grant = await there.reserve(claim(AT_ONCE))
    running.cancel()
    await asyncio.wait([running])
    there.allowance.settle(grant, 0)
    await there.allowance.aclose()
    assert not await here.refuses(claim(AT_ONCE))
    with redis_server.client() as client:
        assert client.zcard("gatehouse:v1:{l}:processes") == 1


async def test_a_redis_that_is_full_is_told_once_and_degraded_until_it_has_room(
    own_redis: RedisServer,
) -> None:
    async with process(own_redis.url) as here:
        with own_redis.client() as client:
            client.config_set("maxmemory", "1")
            for _ in range(3):
                await here.reserve(claim(REQUESTS))
                assert here.allowance.degraded == ["redis"]
            assert sum(here.store_errors.values()) == 3
            assert len(here.said) == 1
            await until(lambda: not here.allowance._lifeline.connected)  # its signs of life are refused, too
            await here.reserve(claim(REQUESTS))
            assert here.allowance.degraded == ["redis"]
            client.config_set("maxmemory", "0")
        await here.back()
        await here.reserve(claim(REQUESTS))
        assert sum(here.store_errors.values()) == 4
        assert [text.split(":")[0] for text in here.said] == ["Redis refuses a script", "Redis is back"]


async def test_settlements_that_redis_refuses_for_a_moment_are_said_again(own_redis: RedisServer) -> None:
    async with process(own_redis.url) as here:
        grants = [await here.reserve(claim(replace(AT_ONCE, limit=4))) for _ in range(4)]
        with own_redis.client() as client:
            client.config_set("min-replicas-to-write", "1")
            for grant in grants:
                here.allowance.settle(grant, 0)
            await until(lambda: here.allowance._settlements._held)
            client.config_set("min-replicas-to-write", "0")
        await until(lambda: not here.allowance._settlements._held)
        await here.back()
        await until_answered(here)
        grant = await here.reserve(claim(replace(AT_ONCE, limit=4)))
        assert [standing.remaining for standing in grant.standings] == [3]
        assert not here.store_errors


async def test_one_bucket_that_redis_refuses_is_told_until_a_sign_of_life_without_it(
    own_redis: RedisServer,
) -> None:
    async with process(own_redis.url) as here:
        await here.reserve(claim(REQUESTS))
        with own_redis.client() as client:
            [bucket] = [key for key in client.keys("*") if "processes" not in key]
            client.delete(bucket)
            client.set(bucket, "no bucket")
        for _ in range(3):
            await here.reserve(claim(REQUESTS))
            await here.reserve(claim(TOKENS))
        assert here.allowance.degraded == ["redis"]
        assert len(here.said) == 1
        await here.back()
        assert len(here.said) == 2


async def test_who_says_pong_to_everything_is_a_redis_that_is_away(tmp_path: Any) -> None:
    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            writer.write(b"+PONG\r\n" * 9)
        writer.close()

    server = await asyncio.start_unix_server(agree, tmp_path / "s")
    async with server, process(f"unix://{tmp_path}/s", connected=False) as here:
        await until(lambda: bool(here.said))
        await here.reserve(claim(REQUESTS))
        assert here.allowance.degraded == ["redis"]
