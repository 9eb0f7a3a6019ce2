"""Conversations before two replicas, over real sockets."""

from contextlib import AsyncExitStack
from pathlib import Path

from tests.running import gateway, policies
from tests.scripted import Provider


async def test_all_turns_of_a_conversation_reach_one_replica_and_move_only_when_it_is_lost(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(Provider()) for _ in range(2)]
        text = policies(*(one.url for one in replicas), model="strategy: prefix-aware, retry: {attempts: 1}")
        running = await stack.enter_async_context(gateway(tmp_path, text))

        async def home(number: int, turns: int) -> str:
            words = [{"role": "user", "content": f"conversation {number}"}]
            words += [{"role": "assistant", "content": "well"}, {"role": "user", "content": "go on"}] * turns
            answer = await running.chat(messages=words)
            assert answer.status_code == 200
            return answer.headers["x-gateway-target"]

        homes = [await home(number, 0) for number in range(12)]
        assert set(homes) == {"p0/smart", "p1/smart"}
        assert [await home(number, 2) for number in range(12)] == homes
        await replicas[0].__aexit__()
        assert {await home(number, 3) for number in range(12)} == {"p1/smart"}
