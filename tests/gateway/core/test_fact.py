"""Facts are plain records: equal by what they say, copied with changes, closed to anything else."""

from dataclasses import replace

import pytest

from gateway.core.fact import fact


@fact
class Size:
    tokens: int
    images: int = 0


@fact
class Sized:
    size: Size = Size(1)  # a fact may be a default: it is not changed


def test_facts_that_say_the_same_are_equal() -> None:
    assert Size(1) == Size(1, 0)
    assert len({Size(1), Size(1, 0), Size(2)}) == 2
    assert Sized().size == Size(1)


def test_a_fact_is_copied_with_changes_and_stays_as_it_was() -> None:
    one = Size(1)
    assert replace(one, images=2) == Size(1, 2)
    assert one == Size(1)


def test_a_fact_holds_nothing_else() -> None:
    with pytest.raises(AttributeError):
        Size(1).note = ""  # type: ignore[attr-defined]
