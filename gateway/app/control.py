"""What parent and workers say to each other: JSON lines over a socket pair, questions with numbers.

The end of the line is the end of the other: a worker whose parent is gone drains and ends.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

ASK_SECONDS = 2.0  # a worker that does not answer in this time is left out of a report
LINE = 64 << 20  # bytes; thousands of series are a few megabytes

Answerer = Callable[[dict[str, Any]], Awaitable[Any]]


class Line:
    """One end of a control line. `run` must be running for answers to arrive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answerer) -> None:
        self._reader, self._writer, self._answer = reader, writer, answer
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def run(self) -> None:
        """Answer questions and hand out answers until the other end is gone."""
        try:
            while line := await self._reader.readline():
                message = orjson.loads(line)
                if "reply" in message:
                    waiter = self._asked.pop(message["reply"], None)
                    if waiter is not None and not waiter.done():
                        waiter.set_result(message["value"])
                else:
                    value = await self._answer(message)
                    self._write({"reply": message["number"], "value": value})
        except (ConnectionError, ValueError):
            return
        finally:
            for waiter in self._asked.values():
                if not waiter.done():
                    waiter.set_exception(ConnectionResetError("the other end is gone"))

    async def ask(self, what: str, within: float = ASK_SECONDS, **more: Any) -> Any:
        """The other end's answer. Raises TimeoutError, ConnectionError where it ends before it answers."""
        self._number += 1
        number = self._number
        waiter = self._asked[number] = asyncio.get_running_loop().create_future()
        self._write({"number": number, "ask": what, **more})
        try:
            async with asyncio.timeout(within):
                return await waiter
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        self._writer.close()

    def _write(self, message: dict[str, Any]) -> None:
        self._writer.write(orjson.dumps(message) + b"\n")
