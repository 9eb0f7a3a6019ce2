"""Grammars beside the loop: compiled in a thread of their own, then asked at each step what its draws may be."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import groupby

import numpy as np
import numpy.typing as npt

from local_backend.sampler import Masks
from local_backend.types import Compile, Draw, Grammar, Plan, Sequence


class Compiling:
    """Sequences that wait for their grammar, job by job."""

    def __init__(self, compile: Compile) -> None:
        self._compile = compile
        self._thread = ThreadPoolExecutor(1, "grammars")
        self._jobs: list[tuple[Future[list[Grammar]], list[Sequence]]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def futures(self) -> list[Future[list[Grammar]]]:
        return [future for future, _ in self._jobs]

    def add(self, text: str, sequences: list[Sequence]) -> None:
        """One job's: each sequence has a state of the same grammar."""
        make = self._compile
        self._jobs.append((self._thread.submit(lambda: [make(text) for _ in sequences]), sequences))

    def take(self, patience: float) -> Iterator[tuple[list[Sequence], bool]]:
        """The sequences of each job that is done, and whether they have their grammar now. Waits `patience` seconds for
        one at most."""
        if patience:
            wait(self.futures, patience, FIRST_COMPLETED)
        # Each is asked once: one that is done a moment later must not be in neither.
        ready = [one for one in self._jobs if one[0].done()]
        self._jobs = [one for one in self._jobs if one not in ready]
        for future, sequences in ready:
            is_made = future.exception() is None
            if is_made:
                for sequence, grammar in zip(sequences, future.result(), strict=True):
                    sequence.grammar = grammar
            yield sequences, is_made

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


def masks(plan: Plan) -> Masks:
    """What the grammars of a step's draws allow."""
    found: dict[int, npt.NDArray[np.int32]] = {}
    for sequence, draws in groupby(enumerate(plan.draws), lambda one: one[1].sequence):
        if sequence.grammar is not None and sequence.finish is None:
            found.update(_in_turn(sequence.grammar, draws))
    return found


def _in_turn(
    grammar: Grammar, draws: Iterable[tuple[int, Draw]]
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """At each draw, as if the drafts before it had been drawn; up to the first that must not be."""
    accepted = 0
    for index, draw in draws:
        mask = grammar.mask()
        yield index, mask
        if draw.draft is None or not mask[draw.draft // 32] >> draw.draft % 32 & 1:
            break
        accepted += grammar.accept(draw.draft)
        if grammar.over:
            break
    if accepted:
        grammar.rollback(accepted)
