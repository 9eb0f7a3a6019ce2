"""One rank's share of a model whose heads and columns are dealt out (Shoeybi et al., 2019, Megatron-LM): queries, keys,
values, gate and up by their outputs, what joins them by its inputs. All else each rank has whole. Torch-free."""

from dataclasses import replace
from typing import NamedTuple

from local_backend.config import ModelConfig, UnusableModel


class Share(NamedTuple):
    """Of `ranks` ranks the one numbered `rank`, from 0 on."""

    rank: int = 0
    ranks: int = 1

    def of(self, whole: ModelConfig) -> ModelConfig:
        """The model as this rank has it. Raises UnusableModel for one that cannot be dealt out so."""
        if self.ranks == 1:
            return whole
        if whole.family.qk_norm == "all":
            raise UnusableModel(
                "norms over all heads at once cannot be dealt out; serve this model by one rank"
            )
        for what, count in (("heads", whole.heads), ("inner columns", whole.intermediate_size)):
            if count % self.ranks:
                raise UnusableModel(f"{count} {what} cannot be dealt out evenly to {self.ranks} ranks")
        if whole.kv_heads % self.ranks and self.ranks % whole.kv_heads:
            raise UnusableModel(
                f"{whole.kv_heads} key-value heads cannot be dealt out evenly to {self.ranks} ranks"
            )
        return replace(
            whole,
            heads=whole.heads // self.ranks,
            kv_heads=max(1, whole.kv_heads // self.ranks),
            intermediate_size=whole.intermediate_size // self.ranks,
        )

    def cut(self, count: int, unit: int = 1) -> slice:
        """What is this rank's of `count` rows or columns, `unit` of which belong together. Where there are fewer units
        than ranks, several ranks have the same."""
        units = count // unit
        mine = max(1, units // self.ranks)
        first = self.rank * units // self.ranks
        return slice(first * unit, (first + mine) * unit)


ALONE = Share()
