"""From logits to ids: what each field does to a row, and that no row minds its neighbours."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend.sampler import Sampler  # noqa: E402
from local_backend.types import Draw, Sampling, Sequence  # noqa: E402

SIZE = 40
LOGITS = torch.linspace(3.0, -3.0, SIZE)  # the likeliest is 0


def draw(
    position: int = 2, tokens: tuple[int, ...] = (1, 2), counts: dict[int, int] | None = None, **asked: Any
) -> Draw:
    sampling = Sampling(**{"temperature": 0.0, **asked})
    sequence = Sequence(0, list(tokens), 2, 99, sampling, lambda choice, delta: None, counts=counts or {})
    return Draw(0, sequence, position)


def ids(*draws: Draw, masks: Any = None) -> list[int]:
    rows = LOGITS.repeat(len(draws), 1)
    found: list[int] = Sampler(SIZE, eos=(0,))(rows, list(draws), masks).ids.tolist()
    return found


def many(**asked: Any) -> list[int]:
    """Two thousand draws, each of a seed of its own."""
    return ids(*(draw(temperature=1.0, seed=seed, **asked) for seed in range(2000)))


def test_greedy_takes_the_likeliest() -> None:
    assert ids(draw()) == [0]


@pytest.mark.parametrize(
    ("asked", "counts", "expected"),
    [
        ({"logit_bias": ((0, -100.0),)}, {}, 1),
        ({"logit_bias": ((30, 100.0),)}, {}, 30),
        ({"presence_penalty": 1.0}, {0: 1}, 1),
        ({"frequency_penalty": 0.4}, {0: 3, 1: 1}, 2),
        ({"repetition_penalty": 2.0}, {0: 1}, 3),  # 1 and 2 stand in the prompt
        ({"min_tokens": 1}, {}, 1),  # 0 would end it
        ({"min_tokens": 1, "stop_ids": (1,)}, {}, 2),
    ],
)
def test_what_is_asked_for_changes_the_row(
    asked: dict[str, Any], counts: dict[int, int], expected: int
) -> None:
    changed, beside = ids(draw(counts=counts, **asked), draw())
    assert changed == expected
    assert beside == 0, "its neighbour asked for nothing"


def test_a_mask_leaves_only_what_a_grammar_allows() -> None:
    allowed = np.zeros(2, dtype=np.int32)
    allowed[0] = 1 << 7 | 1 << 9
    assert ids(draw(), draw(grammar="any"), masks={1: allowed}) == [0, 7]


def test_draws_follow_the_softmax() -> None:
    counted = np.bincount(many(), minlength=SIZE)
    expected = LOGITS.softmax(-1).numpy() * 2000
    chi2 = ((counted - expected) ** 2 / expected).sum()
    assert chi2 < 80, "39 degrees of freedom: above 80 once in 7,000 times, and these seeds are fixed"


def test_cuts_keep_what_numpy_keeps() -> None:
    chances = LOGITS.softmax(-1).numpy()
    nucleus = int((chances.cumsum() - chances < 0.5).sum())
    assert set(many(top_k=3)) == {0, 1, 2}
    assert set(many(top_p=0.5)) == set(range(nucleus))
    assert set(many(min_p=0.5)) == set(np.flatnonzero(chances >= 0.5 * chances[0]).tolist())


def test_a_seed_draws_the_same_in_any_company_and_choices_differ() -> None:
    alone = ids(draw(temperature=1.0, seed=7))
    crowd = ids(
        *(draw(temperature=1.0, seed=seed, top_k=5) for seed in range(6)), draw(temperature=1.0, seed=7)
    )
    assert crowd[-1] == alone[0]
    assert len({tuple(ids(draw(temperature=5.0, seed=7, choice=choice))) for choice in range(8)}) > 1


def test_logprobs_are_of_the_row_as_the_model_gave_it() -> None:
    draws = [draw(), draw(logprobs=2, logit_bias=((0, -100.0),))]
    drawn = Sampler(SIZE, eos=())(LOGITS.repeat(2, 1), draws)
    [(place, found)] = drawn.logprobs(draws).items()
    chances = LOGITS.log_softmax(-1)
    assert place == 1
    assert found[0] == pytest.approx(float(chances[1]))
    assert [token for token, _ in found[1]] == [0, 1]
