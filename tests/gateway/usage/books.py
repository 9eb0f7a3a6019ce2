"""Calls to be booked, and a whole account book in a folder."""

from pathlib import Path
from typing import Any

import orjson

from gateway.core.exchange import Attempt, Call, Caller, Exchange, Shape, Target
from gateway.core.meters import Meters
from gateway.core.usage import Usage
from gateway.state.sql import ensure, open_engine
from gateway.usage.collector import Collector
from gateway.usage.event import begun, ended
from gateway.usage.ledger import Ledger

NOW = 1_800_000_000.0
TARGET = Target("p0/gpt-5", "p0", "compatible", "openai.chat", "gpt-5", None)


def call(number: int = 1, *, team: str = "research", started: float = NOW) -> Exchange:
    """A call that left for a provider and came back whole."""
    identity = f"{int(started * 1000):012x}{number:020x}"
    asked = Call("chat", "openai.chat", "POST", "/chat/completions", b"{}", {}, "gpt-5", False)
    made = Exchange(identity, asked, Caller("ci", team), identity, 0.0, started, Shape(input_tokens=9))
    made.model = "gpt-5"
    made.attempts.append(Attempt(TARGET, 0.0, 0.5, 0.4, 200, "ok", asked="p0/gpt-5", sent=True))
    made.usage = Usage(prompt=10, completion=5, reported=True)
    made.status, made.ended = 200, 0.5
    return made


def event(number: int = 1, **facts: Any) -> dict[str, Any]:
    """How such a call ended, as it stands in the spool."""
    one = call(number, **facts)
    found: dict[str, Any] = orjson.loads(ended(one, begun(one)))
    return found


class Books:
    """A spool folder with its collector and ledger, and what they complain of."""

    def __init__(self, folder: Path, database_url: str = "", earlier: str = "") -> None:
        self.spool, self.meters = folder / "spool", Meters()
        self.spool.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.now = NOW
        engine = open_engine(database_url or f"sqlite:///{folder / 'books.db'}")
        self.ledger = Ledger(engine, lambda: self.now, ensure, earlier=earlier)
        self.collector = Collector(
            self.spool, self.ledger, self.meters, lambda level, text: self.said.append(text)
        )

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.ledger.calls()}
