"""What flows through the engine: Request -> Sequence -> Plan -> Delta. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from local_backend.ngram import Lookup

if TYPE_CHECKING:  # the server's process does without
    import numpy as np
    import numpy.typing as npt


COLDEST = 1e-6  # logits over less than that are no numbers any more


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

    def __post_init__(self) -> None:
        if self.temperature < COLDEST:  # such a draw is the likeliest anyway
            object.__setattr__(self, "temperature", 0.0)

    @property
    def late(self) -> bool:
        """Whether a draw needs to know the token before it, and cannot be made while that is in flight."""
        return bool(self.grammar) or self.penalised

    @property
    def penalised(self) -> bool:
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0)

    @property
    def edits(self) -> bool:
        """Whether the logits are changed before the draw."""
        return self.late or bool(self.logit_bias) or self.min_tokens > 0

    @property
    def special(self) -> bool:
        """Whether logits are needed for more than the draw."""
        return self.edits or self.logprobs is not None


class Grammar(Protocol):
    """What one choice may still say: the state of a grammar between its tokens. `over`: nothing but the end."""

    @property
    def over(self) -> bool: ...

    def mask(self) -> "npt.NDArray[np.int32]":
        """[ceil(vocabulary / 32)]: bit i % 32 of word i // 32 is 1 where id i may come next."""

    def accept(self, token: int) -> bool:
        """Go on by one drawn token, the end of the text included; False: the grammar does not allow it."""

    def rollback(self, count: int) -> None:
        """Take back the last tokens: drafts that may not be drawn."""


# From a `Sampling.grammar` to its state at the first token. Called off the engine's loop, once per choice; what
# it raises ends the choice with Finish.ERROR: the server has compiled the same text before.
Compile = Callable[[str], Grammar]


@dataclass(slots=True, frozen=True)
class Job:
    """What the engine is handed: one prompt, and how many choices are to be drawn from it.

    `sampling.choice` is set by the engine. `salt`: whose prompt it is; only prompts of one salt share a cache.
    `priority`: the smaller goes first."""

    tokens: list[int]
    sampling: Sampling
    choices: int = 1
    salt: str = ""
    priority: int = 0
    embed: bool = False  # no choice is drawn: the prompt's vector is what is asked for


class Finish(Enum):
    """Why a sequence ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


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
    vector: tuple[float, ...] = ()  # of a prompt that was to be embedded; finite


# Called with (choice, delta) from `Engine.step`, and from `Engine.abort` for what is aborted.
Deliver = Callable[[int, Delta], None]


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice of one request. The last `pending` tokens are stand-ins, drafts among them: their draws are still on
    the way.
    `computed` tokens have their keys and values in `table`'s blocks, or will have when the step in flight ends."""

    id: int
    tokens: list[int]
    prompt: int  # length of the prompt in tokens
    limit: int  # length at which it ends, the prompt included
    sampling: Sampling
    deliver: Deliver
    salt: str = ""
    priority: int = 0
    arrived: float = 0.0
    forks: list["Sequence"] = field(default_factory=list)  # choices that wait for this prompt to be computed
    pending: int = 0
    table: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)  # of the full blocks of its tokens
    published: int = 0  # blocks of the table that others may find
    computed: int = 0
    cached: int = 0
    running: bool = False
    finish: Finish | None = None
    grammar: Grammar | None = None
    counts: dict[int, int] = field(default_factory=dict)  # of generated ids, kept where a penalty asks
    lookup: Lookup | None = None  # made with its first draft
    first_token: float = 0.0
    last_token: float = 0.0

    @property
    def known(self) -> int:
        """Tokens that are no stand-ins."""
        return len(self.tokens) - self.pending

    @property
    def rank(self) -> tuple[int, float, int]:
        """Who goes first: the smallest. Who makes room: the largest."""
        return self.priority, self.arrived, self.id


class Piece(NamedTuple):
    """`size` tokens of one sequence to be computed in this step, from `start` on."""

    sequence: Sequence
    start: int
    size: int


class Draw(NamedTuple):
    """A token to be drawn: `sequence`'s at `position`, from the token before it, in the step's piece number `piece`.
    `draft`: what the rest of the piece takes it for; where something else is drawn, the later draws are void."""

    piece: int
    sequence: Sequence
    position: int
    draft: int | None = None


@dataclass(slots=True)
class Plan:
    """What one step does: copy blocks (from, to), compute pieces, draw. `tokens`: how many are computed."""

    copies: list[tuple[int, int]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    tokens: int = 0

    @property
    def late(self) -> bool:
        return any(draw.sequence.sampling.late for draw in self.draws)

    def behind(self, draw: Draw) -> int:
        """How many tokens before the end of its piece it is drawn from: 0 but for drafts."""
        _, start, size = self.pieces[draw.piece]
        return start + size - draw.position


class BadJob(Exception):
    """A job that this model cannot do; the message says why."""


def check_tokens(tokens: list[int], most: int, vocabulary: int) -> None:
    """Raises BadJob for what the model cannot read."""
    if not 0 < len(tokens) <= most:
        raise BadJob(f"a prompt of {len(tokens)} tokens; this model takes 1 to {most}")
    if max(tokens) >= vocabulary:
        raise BadJob(f"there is no token {max(tokens)}: this model's vocabulary has {vocabulary}")


class Full(Exception):
    """No room for another request; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineGone(Exception):
    """There is no engine that could serve, or go on with, a call; the message says why."""
