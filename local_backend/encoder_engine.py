"""The engine of a model that embeds and does nothing else: the same door as `engine.Engine`, and a queue behind it."""

from itertools import count

from local_backend.embedder import Embedder, Embeddings
from local_backend.metrics import Metrics
from local_backend.options import EngineConfig
from local_backend.types import BadJob, Deliver, Delta, Finish, Job, Sequence, check_tokens


class EncoderEngine:
    """Owned by one thread: whoever calls `step` also calls `add` and `abort`."""

    def __init__(self, embedder: Embedder, config: EngineConfig, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.max_len = min(config.max_len or embedder.max_len, embedder.max_len)
        self._vocabulary = embedder.vocabulary
        self._embeddings = Embeddings(embedder, config.step_tokens, self.metrics)
        self._numbers = count()

    @property
    def has_work(self) -> bool:
        return bool(self._embeddings)

    def add(self, job: Job, deliver: Deliver) -> list[Sequence]:
        """Raises Full, BadJob."""
        if not job.embed:
            raise BadJob("this model makes embeddings and no text; call /v1/embeddings")
        check_tokens(job.tokens, self.max_len, self._vocabulary)
        size = len(job.tokens)
        sequence = Sequence(next(self._numbers), job.tokens, size, size, job.sampling, deliver)
        self._embeddings.add(sequence)
        return [sequence]

    def abort(self, sequence: Sequence) -> None:
        if sequence.finish is None:
            self._embeddings.remove(sequence)
            self._end(sequence, Finish.ABORT)
            sequence.deliver(0, Delta((), Finish.ABORT, 0))
            self.metrics.aborts += 1

    def step(self) -> None:
        self._embeddings.step(self._end)
        self.metrics.steps += 1

    def close(self) -> None:
        """Nothing is open."""

    def _end(self, sequence: Sequence, finish: Finish) -> None:
        sequence.finish = finish
        self.metrics.finished[finish.value] = self.metrics.finished.get(finish.value, 0) + 1
