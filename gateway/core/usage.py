"""Tokens of one call, as every provider reports them once translated."""

from dataclasses import dataclass, replace


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

    def beyond(self, charged: int) -> "Usage":
        """What is left to be charged, where so many tokens of the prompt were before it was known. An estimate that was
        too high stands: nothing that counts tokens can be given some back."""
        return replace(self, prompt=max(0, self.prompt - charged))
