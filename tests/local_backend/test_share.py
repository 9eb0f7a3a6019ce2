"""What the ranks of a model that is dealt out find adds up to what the whole one finds."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend.attention import Batch  # noqa: E402
from local_backend.cache import Cache  # noqa: E402
from local_backend.config import ModelConfig, UnusableModel  # noqa: E402
from local_backend.loader import load  # noqa: E402
from local_backend.model import Join  # noqa: E402
from local_backend.options import Setup  # noqa: E402
from local_backend.share import ALONE, Share  # noqa: E402
from local_backend.types import Piece, Sampling, Sequence  # noqa: E402
from tests.local_backend.test_families import CASES, PROMPT, write  # noqa: E402

DEALT = [name for name in CASES if "olmo" not in name]


class Sums:
    """Ranks in threads, which meet twice at each sum."""

    def __init__(self, ranks: int) -> None:
        self._found: list[Any] = [None] * ranks
        self._meeting = threading.Barrier(ranks, timeout=20)

    def of(self, rank: int) -> Join:
        def join(x: Any) -> Any:
            self._found[rank] = x.clone()
            self._meeting.wait()
            total = sum(self._found)
            self._meeting.wait()
            return x.copy_(total)

        return join


def logits(folder: Path, share: Share = ALONE, join: Join | None = None, quantize: str = "none") -> Any:
    """Of every token of the prompt."""
    with torch.inference_mode():
        model = load(folder, "float32", quantize, share=share, join=join)
        cache = Cache(model.config, 9, 8, torch.float32)
        table = list(range(1, 9))
        one = Sequence(1, list(PROMPT), len(PROMPT), 99, Sampling(), lambda *_: None, table=table)
        batch = Batch([Piece(one, 0, len(PROMPT))], cache)
        return model.logits(model(batch.ids, batch.positions, batch.attend))


def dealt(folder: Path, ranks: int, quantize: str = "none") -> list[Any]:
    sums = Sums(ranks)
    with ThreadPoolExecutor(ranks) as threads:
        work = [
            threads.submit(logits, folder, Share(rank, ranks), sums.of(rank), quantize)
            for rank in range(ranks)
        ]
        return [one.result() for one in work]


@pytest.mark.parametrize("name", DEALT)
def test_two_ranks_find_what_one_finds(name: str, tmp_path: Path) -> None:
    family, asked = CASES[name]
    write(tmp_path, family, asked)
    whole = logits(tmp_path)
    for found in dealt(tmp_path, 2):
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_ranks_share_a_head_of_keys_where_there_are_more_of_them(tmp_path: Path) -> None:
    write(tmp_path, "Llama", {"attention_bias": True, "mlp_bias": True})
    assert ModelConfig.load(tmp_path).kv_heads == 2
    whole = logits(tmp_path)
    for found in dealt(tmp_path, 4):
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_int8_weights_are_dealt_out_as_well(tmp_path: Path) -> None:
    write(tmp_path, "Qwen3", {"head_dim": 16})
    whole = logits(tmp_path, quantize="int8")
    first, second = dealt(tmp_path, 2, quantize="int8")
    assert torch.equal(first, second)
    assert (first - whole).abs().max() < 0.05 * whole.abs().max()


def test_a_rank_holds_no_more_than_its_share(tmp_path: Path) -> None:
    write(tmp_path, "Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}})
    model, mine = load(tmp_path), load(tmp_path, share=Share(1, 2))
    ours: Any = mine.get_submodule("layers.0")
    whole: Any = model.get_submodule("layers.0")
    for name in ("attention.qkv", "mlp.gate_up"):
        rows = whole.get_submodule(name).weight.shape[0]
        assert ours.get_submodule(name).weight.shape[0] * 2 == rows
    assert torch.equal(ours.get_submodule("mlp.down").weight, whole.get_submodule("mlp.down").weight[:, 24:])
    assert mine.config.kv_bytes(4) * 2 == model.config.kv_bytes(4)


@pytest.mark.parametrize(
    ("family", "asked", "ranks", "why"),
    [
        ("Llama", {}, 3, "4 heads cannot be dealt out evenly to 3 ranks"),
        ("Llama", {"intermediate_size": 49}, 2, "49 inner columns"),
        (
            "Llama",
            {"hidden_size": 48, "num_attention_heads": 12, "num_key_value_heads": 3},
            2,
            "3 key-value heads",
        ),
        ("Olmo2", {}, 2, "norms over all heads at once"),
    ],
)
def test_what_cannot_be_dealt_out_is_told(
    family: str, asked: dict[str, Any], ranks: int, why: str, tmp_path: Path
) -> None:
    write(tmp_path, family, asked)
    with pytest.raises(UnusableModel, match=why):
        Share(0, ranks).of(ModelConfig.load(tmp_path))
    assert Setup(str(tmp_path)).ranks == 1


def test_cuts_meet_and_leave_nothing_out() -> None:
    assert [Share(rank, 3).cut(12, 2) for rank in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert [Share(rank, 4).cut(16, 8) for rank in range(4)] == [
        slice(0, 8), slice(0, 8), slice(8, 16), slice(8, 16),
    ]  # fmt: skip
