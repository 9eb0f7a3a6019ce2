"""Ten thousand random steps of scheduler and block pool: nothing leaks, nobody starves, no budget is exceeded."""

import random

from local_backend.blocks import BlockPool
from local_backend.options import EngineConfig
from local_backend.scheduler import Scheduler
from local_backend.types import Sampling, Sequence


def test_ten_thousand_random_steps_keep_every_promise() -> None:
    dice = random.Random(42)
    config = EngineConfig(block_size=4, step_tokens=24, max_seqs=6, max_waiting=100)
    pool = BlockPool(24, config.block_size)
    scheduler = Scheduler(config, pool)
    lives: dict[int, int] = {}  # sequence -> length at which it ends
    number = finished = 0
    for _ in range(10_000):
        if dice.random() < 0.3 and scheduler.waiting < 20:
            number += 1
            prompt = [dice.randrange(3) for _ in range(dice.randrange(1, 40))]
            scheduler.add(
                Sequence(number, prompt, len(prompt), Sampling(), lambda choice, delta: None, arrived=number)
            )
            lives[number] = len(prompt) + dice.randrange(1, 12)
        pieces = scheduler.plan()
        assert sum(piece.size for piece in pieces) <= config.step_tokens
        assert len(scheduler.running) <= config.max_seqs
        scheduler.settle(pieces)
        for piece in pieces:
            sequence = piece.sequence
            if piece.samples:
                sequence.tokens.append(dice.randrange(3))
            if len(sequence.tokens) >= lives[sequence.id]:
                scheduler.finish(sequence)
                finished += 1
        if dice.random() < 0.02 and scheduler.sequences():
            scheduler.finish(dice.choice(scheduler.sequences()))
        pool.check_integrity([sequence.table for sequence in scheduler.sequences()])
    assert scheduler.preemptions > 10
    assert scheduler.hit_tokens > 100
    assert finished > 1000
    for sequence in scheduler.sequences():
        scheduler.finish(sequence)
    assert pool.used == 0


def test_an_earlier_equal_is_never_overtaken() -> None:
    config = EngineConfig(block_size=4, step_tokens=64, max_seqs=8)
    pool = BlockPool(6, 4)  # five blocks: twenty tokens
    scheduler = Scheduler(config, pool)
    for number, length in enumerate((16, 18, 2)):
        tokens = [number] * length
        scheduler.add(
            Sequence(number, tokens, length, Sampling(), lambda choice, delta: None, arrived=number)
        )
    assert [piece.sequence.id for piece in scheduler.plan()] == [0], (
        "the small one waits behind the large one"
    )


def test_priority_goes_first() -> None:
    scheduler = Scheduler(EngineConfig(max_seqs=1), BlockPool(10, 16))
    for number, priority in enumerate((5, 1)):
        scheduler.add(
            Sequence(
                number, [1], 1, Sampling(), lambda choice, delta: None, priority=priority, arrived=number
            )
        )
    assert scheduler.plan()[0].sequence.id == 1
