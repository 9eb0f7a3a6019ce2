"""A step on its way: from its launch to what it draws."""

from concurrent.futures import Future

import torch
from torch import Tensor

from local_backend.sampler import Drawn
from local_backend.types import Logprob, Plan


class Flight:
    """`rows`: where in `drawn` what is drawn for each of the plan's draws stands; `logits`: theirs,
    until they are drawn from."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rows = plan, list(range(len(plan.draws)))
        self.logits: Tensor | None = None
        self.drawn: Drawn | None = None
        self.done: Future[None] | None = None
        self._home: Drawn | None = None
        self._landed: torch.cuda.Event | None = None

    def sources(self) -> dict[int, int]:
        """Where in `drawn` the next token of a sequence stands, by its id."""
        return {draw.sequence.id: row for draw, row in zip(self.plan.draws, self.rows, strict=True)}

    def land(self, drawn: Drawn) -> None:
        """What it draws is known to the device, and on its way home."""
        self.drawn, self._home = drawn, drawn.sent_home()

    def mark(self, device: torch.device) -> None:
        """All there is to do for it has been launched."""
        if device.type == "cuda":
            self._landed = self._landed or torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._landed.record()

    def wait(self) -> tuple[list[int], dict[int, Logprob]]:
        """The ids drawn, in the order of the plan's draws, and logprobs where asked."""
        if self.done is not None:
            self.done.result()
        if self._landed is not None:
            self._landed.synchronize()
        if self._home is None:
            return [], {}
        ids = self._home.ids.tolist()
        return [ids[row] for row in self.rows], self._home.logprobs(self.plan.draws)
