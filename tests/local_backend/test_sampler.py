"""Draws against the same written out in numpy."""

from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from local_backend.sampler import Sampler, _keep_top_k, _keep_top_p  # noqa: E402
from local_backend.types import COLDEST, Draw, Sampling, Sequence  # noqa: E402

SIZE = 300


def draw(position: int = 5, prompt: list[int] | None = None, **asked: Any) -> Draw:
    tokens = prompt or [1, 2, 3]
    one = Sequence(0, tokens, len(tokens), 100, Sampling(**asked), lambda choice, delta: None)
    return Draw(0, one, position)


def softmax(row: Any) -> Any:
    found = numpy.exp(row - row.max())
    return found / found.sum()


def kept(rows: Any) -> list[set[int]]:
    return [set(numpy.flatnonzero(numpy.isfinite(row)).tolist()) for row in rows.numpy()]


def test_top_k_and_top_p_keep_what_numpy_keeps() -> None:
    torch.manual_seed(1)
    for scale in (0.1, 3.0):  # flat: most of the vocabulary is in; steep: a few ids
        rows = torch.randn(6, SIZE) * scale
        order = numpy.argsort(-rows.numpy(), axis=1)
        most = [1, 2, 7, 50, 299, 1000]
        assert kept(_keep_top_k(rows, most)) == [
            set(line[:k].tolist()) for line, k in zip(order, most, strict=True)
        ]
        nuclei = [1e-6, 0.1, 0.5, 0.9, 0.99, 0.999]
        expected = []
        for row, line, p in zip(rows.numpy().astype(float), order, nuclei, strict=True):
            reached = numpy.cumsum(softmax(row)[line])
            expected.append(set(line[: int(numpy.searchsorted(reached, p)) + 1].tolist()))
        assert kept(_keep_top_p(rows, torch.tensor(nuclei))) == expected


def test_draws_follow_the_probabilities() -> None:
    torch.manual_seed(2)
    row = torch.randn(20)
    count, temperature = 20_000, 0.7
    sampler = Sampler(20, ())
    draws = [draw(position, temperature=temperature, seed=3) for position in range(count)]
    ids = sampler(row.repeat(count, 1), draws).ids.numpy()
    expected = softmax(row.numpy() / temperature) * count
    chi = ((numpy.bincount(ids, minlength=20) - expected) ** 2 / expected).sum()
    assert chi < 43.8, "19 degrees of freedom, one chance in a thousand"


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-40, 5e-324])
def test_next_to_no_warmth_is_none(temperature: float) -> None:
    torch.manual_seed(3)
    rows = torch.randn(8, SIZE)
    draws = [draw(position, temperature=temperature, top_p=0.9, min_p=0.1, seed=3) for position in range(8)]
    assert torch.equal(Sampler(SIZE, ())(rows.clone(), draws).ids, rows.argmax(-1))


def test_the_least_warmth_that_counts_gives_numbers() -> None:
    rows = torch.randn(8, SIZE) * 100
    draws = [draw(position, temperature=COLDEST, top_p=0.9, min_p=0.1, seed=3) for position in range(8)]
    assert torch.equal(Sampler(SIZE, ())(rows.clone(), draws).ids, rows.argmax(-1))


def test_min_p_drops_what_is_far_from_the_best() -> None:
    row = torch.tensor([0.0, 1.0, 2.0, 3.0]).repeat(500, 1)
    draws = [draw(position, temperature=1.0, min_p=0.3, seed=1) for position in range(500)]
    assert set(Sampler(4, ())(row, draws).ids.tolist()) == {2, 3}  # e**-1 = 0.37, e**-2 = 0.14


def test_a_draw_depends_on_its_own_row_alone() -> None:
    torch.manual_seed(4)
    rows = torch.randn(4, SIZE)
    draws = [
        draw(9, temperature=1.0, seed=1, top_p=0.9),
        draw(9, temperature=1.0, seed=1, choice=1),
        draw(10, temperature=1.0, seed=1, top_k=40),
        draw(9, temperature=0.0),
    ]
    sampler = Sampler(SIZE, ())
    together = sampler(rows.clone(), draws).ids.tolist()
    apart = [sampler(rows[at : at + 1].clone(), [one]).ids.item() for at, one in enumerate(draws)]
    assert together == apart
    same = torch.zeros(2, SIZE)
    assert len(set(sampler(same, draws[:2]).ids.tolist())) == 2, "choices draw apart"


def test_penalties_and_biases_are_those_of_the_definitions() -> None:
    torch.manual_seed(5)
    row = torch.randn(1, SIZE)
    one = draw(
        6, [10, 11, 12], temperature=0.0, presence_penalty=0.5, frequency_penalty=0.25, repetition_penalty=1.5,
        logit_bias=((7, 2.0), (10, -1.0)), logprobs=0,
    )  # fmt: skip
    one.sequence.counts = {12: 1, 20: 3}
    expected = row[0].numpy().astype(float).copy()
    expected[7] += 2
    expected[10] -= 1
    for token in (10, 11, 12, 20):
        expected[token] = expected[token] / 1.5 if expected[token] > 0 else expected[token] * 1.5
    for token, times in one.sequence.counts.items():
        expected[token] -= 0.5 + 0.25 * times
    logits = row.clone()
    Sampler(SIZE, ())._edit(logits, [one], {})
    numpy.testing.assert_allclose(logits[0].numpy(), expected, rtol=1e-5)


def test_the_end_is_not_drawn_before_min_tokens() -> None:
    row = torch.zeros(1, SIZE)
    row[0, 42], row[0, 43] = 9.0, 8.0
    sampler = Sampler(SIZE, eos=(42,))
    asked: dict[str, Any] = {"temperature": 0.0, "min_tokens": 3, "stop_ids": frozenset({43})}
    assert sampler(row.clone(), [draw(5, **asked)]).ids.item() not in (42, 43)
    assert sampler(row.clone(), [draw(6, **asked)]).ids.item() == 42


def test_logprobs_are_of_the_raw_distribution() -> None:
    torch.manual_seed(6)
    rows = torch.randn(3, SIZE)
    draws = [
        draw(temperature=0.0),
        draw(temperature=2.0, logprobs=3, logit_bias=((5, 50.0),)),
        draw(logprobs=0),
    ]
    drawn = Sampler(SIZE, ())(rows.clone(), draws)
    told = drawn.logprobs(draws)
    assert set(told) == {1, 2}
    expected = numpy.log(softmax(rows[1].numpy().astype(float)))
    assert drawn.ids[1] == 5
    assert told[1].drawn == pytest.approx(expected[5], abs=1e-5)
    best = numpy.argsort(-expected)[:3]
    assert [token for token, _ in told[1].likeliest] == best.tolist()
    assert [value for _, value in told[1].likeliest] == pytest.approx(expected[best].tolist(), abs=1e-5)
    assert told[2].likeliest == ()


def test_a_mask_leaves_only_what_it_allows() -> None:
    bits = numpy.zeros(320, numpy.uint8)
    bits[[3, 299]] = 1
    mask = numpy.packbits(bits, bitorder="little").view(numpy.int32)
    rows = torch.randn(200, SIZE)
    draws = [draw(at, temperature=1.0, seed=at, grammar="x") for at in range(200)]
    ids = Sampler(SIZE, ())(rows, draws, dict.fromkeys(range(200), mask)).ids
    assert set(ids.tolist()) == {3, 299}
