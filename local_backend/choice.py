"""One choice on its way from the engine's deltas to the parts of an answer. Torch-free."""

from bisect import bisect_left

from local_backend.detok import Detokenizer
from local_backend.part import Part, Scored, Usage
from local_backend.tokenizer import Tokenizer
from local_backend.types import Delta, Finish
from local_backend.voice import Ear
from local_backend.wire import Request


class Choice:
    """`done` is true once the answer has ended, perhaps before the engine knows: a stop string was met, or the
    only tool call that was wanted is complete."""

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        usage: Usage,
        ear: Ear,
        offset: int = 0,
        *,
        begun: bool = False,
    ) -> None:
        """`usage` is its prompt's; `offset` the length in characters of what is echoed before the answer; `begun`: the
        answer goes on with a text of the prompt's."""
        self._detok = Detokenizer(
            tokenizer, request.stops, keep_stop=request.keep_stop, keep=ear.heeds, begun=begun
        )
        self._ear, self._usage, self._offset = ear, usage, offset
        self._scored: list[Scored] = []  # of tokens whose text is still held back
        self._begins: list[int] = []  # where the text of each token begins, as long as there may be thoughts
        self.done = False

    def feed(self, delta: Delta) -> Part:
        usage, detok = self._usage, self._detok
        usage.completion += len(delta.ids)
        usage.cached = max(usage.cached, delta.cached)
        text = ""
        for place, token in enumerate(delta.ids):
            if delta.logprobs:
                drawn, likeliest = delta.logprobs[place]
                self._scored.append(Scored(token, drawn, likeliest, detok.told + self._offset))
            if self._ear.thinks:
                self._begins.append(detok.told)
            text += detok.feed((token,))
            if detok.stopped:
                break
        if detok.stopped:
            return self._end(text, Finish.STOP)
        if delta.finish is not None:
            rest, cut = detok.end()
            return self._end(text + rest, Finish.STOP if cut else delta.finish)
        part = self._ear.feed(text)
        if self._ear.full:
            return self._end("", Finish.STOP, part)
        part.scored = self._certain()
        return part

    def _end(self, text: str, finish: Finish, part: Part | None = None) -> Part:
        self.done = True
        part = part or self._ear.feed(text, last=True)
        self._usage.reasoning += bisect_left(self._begins, self._ear.thought)
        part.scored = self._certain(last=not self._detok.stopped)
        part.finish = "tool_calls" if finish is Finish.STOP and self._ear.calls else finish.value
        return part

    def _certain(self, last: bool = False) -> list[Scored]:
        """The scores of tokens whose text has gone out, wholly or in part; at the end those without text too."""
        if not self._scored:
            return []
        sent = self._detok.sent + self._offset
        count = len(self._scored) if last else sum(one.offset < sent for one in self._scored)
        certain, self._scored = self._scored[:count], self._scored[count:]
        return certain
