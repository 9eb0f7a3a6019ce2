"""Tokens of one call, as every provider reports them once translated."""

from dataclasses import dataclass


@dataclass(slots=True)
class Usage:
    """Counts in tokens. `prompt` includes cached ones, `completion` includes reasoning.

    `reported` tells that the provider gave the numbers; until then they are estimates. `search_units` are what some
    bill for a rerank, 0 where the provider tells none.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    reported: bool = False
    search_units: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion
