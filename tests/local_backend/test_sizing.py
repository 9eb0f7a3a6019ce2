"""What fits is served, what does not is refused with both numbers and a remedy, before memory runs out."""

from dataclasses import replace

import pytest

from local_backend.config import BUNDLED, ModelConfig, UnusableModel
from local_backend.options import KV_SHARE, EngineConfig, Setup
from local_backend.sizing import check_weights, kv_memory
from local_backend.stored import Stored

MIB = 1 << 20
SHAPE = ModelConfig.load(BUNDLED)
SETUP = Setup("/models/m").suited(gpu=False)
KEPT = replace(SHAPE, stored=Stored("gptq"))
WIDENED = replace(SHAPE, stored=Stored("fp8", kept=False, block=(128, 128)))
TOKEN = SHAPE.kv_bytes(4)


@pytest.mark.parametrize(
    ("setup", "needed"),
    [
        (SETUP, 7 * MIB),
        (replace(SETUP, dtype="float32"), SHAPE.parameters * 4),
        (replace(SETUP, dtype="bfloat16"), SHAPE.parameters * 2),
        (replace(SETUP, dtype="bfloat16", quantize="int8"), SHAPE.parameters),
        (replace(SETUP, quantize="fp8"), SHAPE.parameters),
    ],
)
def test_weights_fit_to_the_byte_or_are_refused(setup: Setup, needed: int) -> None:
    check_weights(SHAPE, setup, 7 * MIB, needed)
    with pytest.raises(UnusableModel, match=r"MiB of memory are available; take .*smaller model") as refused:
        check_weights(SHAPE, setup, 7 * MIB, needed - 1)
    assert ("--quantize int8" in str(refused.value)) == (setup.quantize == "none")


@pytest.mark.parametrize(
    ("shape", "setup", "needed", "told"),
    [
        (KEPT, replace(SETUP, dtype="float32"), 7 * MIB, "take a smaller model"),
        (KEPT, replace(SETUP, quantize="int8"), SHAPE.parameters, "take a smaller model"),
        (WIDENED, SETUP, SHAPE.parameters * 2, "take --quantize int8 or a smaller model"),
        (WIDENED, replace(SETUP, quantize="fp8"), SHAPE.parameters, "take a smaller model"),
    ],
)
def test_weights_stored_in_fewer_bits_count_as_they_will_be_kept(
    shape: ModelConfig, setup: Setup, needed: int, told: str
) -> None:
    check_weights(shape, setup, 7 * MIB, needed)
    with pytest.raises(UnusableModel, match=told):
        check_weights(shape, setup, 7 * MIB, needed - 1)


@pytest.mark.parametrize("together", [1, 2])
def test_each_rank_has_the_tables_whole_and_its_share_of_the_rest(together: int) -> None:
    setup = replace(SETUP, dtype="float32", ranks=2)
    needed = 4 * together * (SHAPE.tables + (SHAPE.parameters - SHAPE.tables) // 2)
    check_weights(SHAPE, setup, 0, needed, together)
    with pytest.raises(UnusableModel):
        check_weights(SHAPE, setup, 0, needed - 1, together)


def test_the_cache_has_its_bytes_or_its_share_of_what_is_left() -> None:
    assert kv_memory(SHAPE, replace(SETUP, kv_memory=64 * MIB), TOKEN, 100 * MIB) == 64 * MIB
    assert kv_memory(SHAPE, replace(SETUP, kv_memory=0.9), TOKEN, 100 * MIB) == 90 * MIB
    assert kv_memory(SHAPE, SETUP, TOKEN, 100 * MIB) == KV_SHARE * 100 * MIB


def test_more_than_there_is_is_refused_with_both_numbers() -> None:
    with pytest.raises(UnusableModel, match=r"asks for 3\.0 GiB and 100\.0 MiB are available"):
        kv_memory(SHAPE, replace(SETUP, kv_memory=3 << 30), TOKEN, 100 * MIB)


def test_a_length_that_the_cache_cannot_hold_is_refused() -> None:
    long = replace(SETUP, config=EngineConfig(max_len=512))
    needed = (512 + 16) * TOKEN
    assert kv_memory(SHAPE, replace(long, kv_memory=needed), TOKEN, 1 << 30) == needed
    with pytest.raises(UnusableModel, match=r"512 tokens take .* raise it, or lower --max-len"):
        kv_memory(SHAPE, replace(long, kv_memory=needed - 1), TOKEN, 1 << 30)
    with pytest.raises(UnusableModel, match="16 tokens take"):
        kv_memory(SHAPE, replace(SETUP, kv_memory=TOKEN), TOKEN, 1 << 30)
