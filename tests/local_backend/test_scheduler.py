"""Ten thousand random steps of scheduler and block pool: nothing leaks, nobody starves, no budget is exceeded."""

import random
from collections import deque

import pytest

from local_backend.blocks import BlockPool
from local_backend.options import EngineConfig
from local_backend.scheduler import Scheduler
from local_backend.types import Finish, Full, Plan, Sampling, Sequence


def sequence(number: int, tokens: list[int], answer: int = 4, priority: int = 0) -> Sequence:
    length = len(tokens)
    return Sequence(
        number,
        tokens,
        length,
        length + answer,
        Sampling(),
        lambda choice, delta: None,
        arrived=number,
        priority=priority,
    )


def settle(scheduler: Scheduler, plan: Plan, dice: random.Random) -> list[Sequence]:
    """Draw as the engine would; those that reached their end."""
    ended = []
    for draw in plan.draws:
        one = draw.sequence
        if scheduler.settle(draw, dice.randrange(3)) and (one.known >= one.limit or dice.random() < 0.02):
            one.finish = Finish.STOP
            scheduler.finish(one)
            ended.append(one)
    for piece in plan.pieces:
        if piece.sequence.running:
            scheduler.publish(piece.sequence)
    return ended


class Written:
    """What each place of each block holds, as a device would write it: the tokens up to there."""

    def __init__(self, count: int, size: int, overlaps: bool) -> None:
        self.size, self.overlaps = size, overlaps  # then stand-ins are written, and known later
        self.places: list[list[tuple[int, ...] | None]] = [[None] * size for _ in range(count)]

    def run(self, plan: Plan) -> None:
        for source, target in plan.copies:
            self.places[target] = self.places[source][:]
        for one, start, count in plan.pieces:
            for at in range(start + count):
                block, place = one.table[at // self.size], at % self.size
                if at >= start:
                    self.places[block][place] = tuple(one.tokens[: at + 1])
                elif at < one.known:
                    held = self.places[block][place]
                    assert held is not None, "read before it was written"
                    assert self.overlaps or held == tuple(one.tokens[: at + 1]), "another text's"


@pytest.mark.parametrize(
    ("depth", "drafts"), [(0, 0), (1, 0), (0, 5)], ids=["one by one", "overlapping", "drafting"]
)
def test_ten_thousand_random_steps_keep_every_promise(depth: int, drafts: int) -> None:
    dice = random.Random(42)
    config = EngineConfig(block_size=4, step_tokens=24, max_seqs=6, max_waiting=100, speculate=drafts)
    pool = BlockPool(24, config.block_size)
    scheduler = Scheduler(config, pool)
    device = Written(24, config.block_size, bool(depth))
    flights: deque[Plan] = deque()
    everyone: list[Sequence] = []
    ended = 0
    for number in range(10_000):
        if dice.random() < 0.3 and scheduler.waiting < 20:
            prompt = [dice.randrange(3) for _ in range(dice.randrange(1, 40))]
            made = [
                sequence(
                    number * 4 + choice, prompt[:], answer=dice.randrange(1, 12), priority=dice.randrange(2)
                )
                for choice in range(dice.choice([1, 1, 1, 3]))
            ]
            for fork in made:
                fork.arrived, fork.priority = number, made[0].priority
            first, *first.forks = made
            scheduler.add(first)
            everyone += made
        plan = scheduler.plan()
        device.run(plan)
        assert all(len(one.tokens) <= one.limit for one in scheduler.running), "nothing past its end"
        flights.append(plan)
        assert sum(piece.size for piece in plan.pieces) == plan.tokens <= config.step_tokens
        assert len(scheduler.running) <= config.max_seqs
        assert scheduler.running == sorted(scheduler.running, key=lambda one: one.rank)
        if len(flights) > depth:
            ended += len(settle(scheduler, flights.popleft(), dice))
        if dice.random() < 0.05 and everyone:
            one = dice.choice(everyone)
            if one.finish is None:
                one.finish = Finish.ABORT
                scheduler.finish(one)
        everyone = [one for one in everyone if one.finish is None]
        pool.check_integrity([one.table for one in scheduler.sequences()])
    assert scheduler.preemptions > 10
    assert scheduler.hit_tokens > 100
    assert ended > 1000
    assert scheduler.drafts >= scheduler.drafts_drawn
    assert (scheduler.drafts_drawn > 1000) == bool(drafts)
    for _ in range(2000):  # nobody is left behind once nothing new comes
        flights.append(scheduler.plan())
        settle(scheduler, flights.popleft(), dice)
    assert not [one for one in everyone if one.finish is None]
    assert pool.used == 0


def test_an_earlier_equal_is_never_overtaken() -> None:
    config = EngineConfig(block_size=4, step_tokens=64, max_seqs=8)
    scheduler = Scheduler(config, BlockPool(6, 4))  # five blocks: twenty tokens
    for number, length in enumerate((16, 18, 2)):
        scheduler.add(sequence(number, [number] * length))
    planned = [piece.sequence.id for piece in scheduler.plan().pieces]
    assert planned == [0], "the small one waits behind the large one"


def test_priority_goes_first() -> None:
    scheduler = Scheduler(EngineConfig(max_seqs=1), BlockPool(10, 16))
    for number, priority in enumerate((5, 1)):
        scheduler.add(sequence(number, [1], priority=priority))
    assert scheduler.plan().pieces[0].sequence.id == 1


def test_decodes_go_on_while_a_long_prompt_is_computed_in_pieces() -> None:
    config = EngineConfig(block_size=4, step_tokens=8)
    scheduler = Scheduler(config, BlockPool(40, 4))
    dice = random.Random(1)
    scheduler.add(sequence(0, [1], answer=50))
    settle(scheduler, scheduler.plan(), dice)
    scheduler.add(sequence(1, [2] * 30))
    plan = scheduler.plan()
    assert [(piece.sequence.id, piece.start, piece.size) for piece in plan.pieces] == [(0, 1, 1), (1, 0, 7)]


def test_answers_go_on_while_a_long_prompt_that_goes_before_them_is_computed() -> None:
    scheduler = Scheduler(EngineConfig(step_tokens=8, block_size=4, max_seqs=8), BlockPool(64, 4))
    dice, answers = random.Random(1), [sequence(number, [1, 2], answer=40) for number in range(3)]
    for one in answers:
        scheduler.add(one)
    settle(scheduler, scheduler.plan(), dice)
    urgent = sequence(9, [1] * 50, priority=-1)
    scheduler.add(urgent)
    while urgent.computed < 50:
        plan = scheduler.plan()
        computed = {piece.sequence.id: piece.size for piece in plan.pieces}
        assert all(computed[one.id] == 1 for one in answers if one.finish is None)
        assert plan.tokens <= 8
        settle(scheduler, plan, dice)


def test_choices_share_their_prompt_and_copy_its_last_block_when_they_write() -> None:
    scheduler = Scheduler(EngineConfig(block_size=4), pool := BlockPool(20, 4))
    first, second = sequence(0, [1] * 6), sequence(1, [1] * 6)
    first.forks = [second]
    scheduler.add(first)
    plan = scheduler.plan()
    assert len(plan.pieces) == 1, "the prompt is computed once"
    assert [draw.sequence for draw in plan.draws] == [first, second]
    assert first.table == second.table
    settle(scheduler, plan, random.Random(3))
    plan = scheduler.plan()
    assert len(plan.copies) == 1
    assert first.table[0] == second.table[0]
    assert first.table[1] != second.table[1]
    assert pool.used == 3


def test_a_full_queue_says_how_long_its_next_has_waited() -> None:
    scheduler = Scheduler(EngineConfig(max_waiting=1), BlockPool(4, 16))
    scheduler.check_room()
    scheduler.add(sequence(0, [1]))
    with pytest.raises(Full) as full:
        scheduler.check_room(now=7.2)
    assert full.value.retry_after == 7
