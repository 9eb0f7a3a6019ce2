"""What compiling shares: the faults found so far, who was there first, conditions that count their errors."""

from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import NamedTuple, TypeVar

from gateway.config.load import Papers
from gateway.config.papers import Paper
from gateway.config.problem import Path, Problem, did_you_mean
from gateway.config.schema import Strict
from gateway.core.exchange import Exchange
from gateway.policy.expression import BadExpression, Condition, OnError

OnConditionError = Callable[[str], None]  # gets the name of the rule
Spec = TypeVar("Spec", bound=Strict)


class CompileOptions(NamedTuple):
    """What compiling needs beside the papers. `everything_on` is for in-file tests: no provider is off."""

    data_dir: FilePath
    on_condition_error: OnConditionError = lambda rule: None
    everything_on: bool = False


class Compiler:
    """One run. Faults are collected, so that all of them are told at once."""

    def __init__(self, papers: Papers, options: CompileOptions) -> None:
        self.papers, self.options = papers, options
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._first: dict[tuple[str, str], str] = {}

    def of(self, kind: type[Spec]) -> list[tuple[Paper, Spec]]:
        return [
            (document.paper, document.spec)
            for document in self.papers.documents
            if isinstance(document.spec, kind)
        ]

    def is_first(self, paper: Paper, noun: str, name: str, path: Path) -> bool:
        """False, and noted with both places, where the name was taken before."""
        first = self._first.get((noun, name))
        if first is None:
            place = paper.place(path, key=True)
            self._first[noun, name] = f"{place.file}:{place.line}:{place.column}"
            return True
        message = f'{noun} "{name}" is there already, at {first}; keep one of them or rename this one'
        self.problems.append(paper.problem(path, message, key=True))
        return False

    def note(self, paper: Paper, path: Path, message: str) -> None:
        self.problems.append(paper.problem(path, message))

    def check_name(self, paper: Paper, path: Path, noun: str, name: str, known: Iterable[str]) -> bool:
        """False, and noted, where nothing is called that."""
        names = list(known)
        if name in names:
            return True
        self.note(paper, path, f'no {noun} named "{name}"; {did_you_mean(name, names)}')
        return False

    def condition(self, paper: Paper, text: str | None, path: Path) -> Condition | None:
        if text is None:
            return None
        try:
            return Condition(text)
        except BadExpression as error:
            self.problems.append(paper.problem_inside(path, error.line, error.column, str(error)))
            return None

    def counter(self, rule: str) -> OnError:
        def count(exchange: Exchange) -> None:
            if not exchange.dry_run:
                self.options.on_condition_error(rule)

        return count
