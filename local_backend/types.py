"""What flows through the engine: Request -> Sequence -> Plan -> Delta. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


@dataclass(slots=True, frozen=True)
class Sampling:
    """How the next token is drawn. `seed` makes draws repeatable, whoever shares the batch; `choice` tells the
    choices of one request apart."""

    temperature: float = 1.0  # 0: the likeliest
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    choice: int = 0
    max_tokens: int = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None  # None: not asked; otherwise how many alternatives beside the drawn token
    grammar: str = ""  # of llguidance, checked by the server; empty: free text


class Finish(Enum):
    """Why a sequence ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class Logprob(NamedTuple):
    """Natural logarithms of probabilities, of the drawn token and of the likeliest (id, logprob), best first."""

    drawn: float
    likeliest: tuple[tuple[int, float], ...]


class Delta(NamedTuple):
    """What one step adds to one sequence."""

    ids: tuple[int, ...]
    finish: Finish | None
    cached: int  # prompt tokens that came from the prefix cache
    logprobs: tuple[Logprob, ...] = ()  # one per id, where asked


Deliver = Callable[[Delta], None]


@dataclass(slots=True)
class Sequence:
    """One choice of one request. `computed` tokens have their keys and values in `table`'s blocks."""

    id: int
    tokens: list[int]
    prompt: int  # length of the prompt in tokens
    sampling: Sampling
    deliver: Deliver
    salt: str = ""
    priority: int = 0
    arrived: float = 0.0
    table: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    computed: int = 0
    cached: int = 0
    first_token: float = 0.0
    last_token: float = 0.0
    aborted: bool = False

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt


class Piece(NamedTuple):
    """`size` tokens of one sequence to be computed in this step, from `start` on."""

    sequence: Sequence
    start: int
    size: int

    @property
    def samples(self) -> bool:
        """Whether this piece reaches the last known token, so that the next one can be drawn."""
        return self.start + self.size == len(self.sequence.tokens)


class Full(Exception):
    """No room for another request; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
