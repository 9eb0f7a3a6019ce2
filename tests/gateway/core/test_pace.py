"""When work that comes back is due."""

from hypothesis import given
from hypothesis import strategies as some

from gateway.core.pace import until


def test_works_of_one_period_keep_out_of_each_others_way() -> None:
    assert [round(until(100.0, 0.5, share), 9) for share in (0.1, 0.6)] == [0.05, 0.3]
    assert round(until(100.31, 0.5, 0.6), 9) == 0.49


@given(now=some.floats(0, 1e8), every=some.floats(0.001, 600), share=some.floats(0, 1))
def test_the_next_moment_always_lies_ahead(now: float, every: float, share: float) -> None:
    assert 0 < until(now, every, share) <= every
