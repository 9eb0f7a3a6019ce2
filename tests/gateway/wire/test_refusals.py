"""A field without a word in the other format is refused by name; where a fallback must do, it is named and left out."""

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.refusals import Refusals


def test_a_field_that_cannot_be_carried_is_refused_by_name() -> None:
    with pytest.raises(BadRequest) as caught:
        Refusals("Latin", None).add("tools[2]")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools[2]")
    assert "cannot be carried over to Latin" in caught.value.message


def test_before_a_fallback_it_is_written_down_and_left_out() -> None:
    dropped: list[str] = []
    Refusals("Latin", dropped).add("seed")
    assert dropped == ["seed"]
